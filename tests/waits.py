"""Waits for a condition, with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable


def until(holds: Callable[[], object], seconds: float = 120) -> float:
    """Wait until something holds, and return the seconds that it took; fails after `seconds`."""
    start = time.monotonic()
    while not holds():
        assert time.monotonic() < start + seconds, "it did not come"
        time.sleep(0.02)
    return time.monotonic() - start
