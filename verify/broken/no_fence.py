"""Planted bug: the worker writes its results even after its lease has expired."""

from __future__ import annotations

import re

from shared import redis_scripts
from shared.settings import Settings

FENCE = re.compile(r"if expiry and tonumber\(expiry\) > NOW \+ ARG\.margin then")

_source = redis_scripts.source


def without_fence(name: str) -> str:
    """Return the script; finish.lua without its check of the lease."""
    text = _source(name)
    if name == "finish":
        text, broken = FENCE.subn("if true then", text)
        if not broken:
            raise AssertionError("finish.lua has another fence: break that one")
    return text


def main() -> None:
    """Run `digitq worker`."""
    from worker.service import serve

    redis_scripts.source = without_fence  # type: ignore[assignment]
    serve(Settings.from_env())


if __name__ == "__main__":
    main()
