"""A clock that a test moves, in place of the module `time`."""

from __future__ import annotations


class Clock:
    """Stands still until something takes time."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
