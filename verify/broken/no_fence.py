"""Broken on purpose: the real worker, but it writes its results also after its lease has run out."""

from __future__ import annotations

import re

from shared import redis_scripts
from shared.settings import Settings

FENCE = re.compile(r"if expiry and tonumber\(expiry\) > NOW \+ margin then")

_source = redis_scripts.source


def without_fence(name: str) -> str:
    """The script, and finish.lua without its question whether the lease is still valid."""
    text = _source(name)
    if name == "finish":
        text, broken = FENCE.subn("if true then", text)
        if not broken:
            raise AssertionError("finish.lua has another fence: break that one")
    return text


def main() -> None:
    """Serves as `digitq worker` does."""
    from worker.service import serve

    redis_scripts.source = without_fence  # type: ignore[assignment]
    serve(Settings.from_env())


if __name__ == "__main__":
    main()
