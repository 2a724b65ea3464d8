"""Claims as the parts of a worker get them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from shared.claims import Claim

QUEUES = ["high", "normal", "low"]


def claim(id: str, image: bytes = b"7", **fields: Any) -> Claim:
    call = f'["digitq.tasks.classify",null,["{id}"],{{}}]'.encode()
    return replace(Claim(id, "e", "normal", True, call, image, 1, "30", "", ""), **fields)
