"""The application in process, and what its answers look like."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

from werkzeug.test import TestResponse

from shared import keys
from shared.claims import Claim, Finish, Ran
from shared.store import Store
from tests.fakes import outcome
from tests.waits import until

PICTURE = {"content_type": "image/png"}


def answer_all(store: Store, **changes: Any) -> None:
    claims = store.claim("w", keys.QUEUES, 64, "n")
    store.finish(
        "w",
        [Finish(c, "e30=", "", replace(outcome(7), **changes)) for c in claims],
        Ran("m", "", len(claims), 0.4, 0.9),
    )


def is_problem(response: TestResponse, status: int, code: str) -> dict[str, Any]:
    assert (response.status_code, response.content_type) == (status, "application/problem+json")
    body: dict[str, Any] = json.loads(response.data)
    assert {"type", "title", "status", "detail", "code"} <= set(body)
    assert (body["status"], body["code"]) == (status, code)
    assert response.headers["X-Request-ID"]
    return body


TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def answer_one(store: Store) -> None:
    """A worker for one picture."""
    claims = list[Claim]()
    until(lambda: claims.extend(store.claim("w", keys.QUEUES, 1, "n")) or claims)
    time.sleep(0.05)  # the web process listens by now
    store.finish("w", [Finish(claims[0], "e30=", "", outcome(7))])
