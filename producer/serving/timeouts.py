"""Ends many waits with one timer: one for each, as `call_later` makes, costs an upload more than its JSON does."""

from __future__ import annotations

import asyncio
from collections import deque

#: Ends with nothing.
Wait = asyncio.Future[None]


class Timeouts:
    """Ends waits that are still going on after the same time for each."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._waits: deque[tuple[float, Wait]] = deque()

    def add(self, wait: Wait) -> None:
        """End a wait, unless it has ended by then. Called on its loop."""
        loop = wait.get_loop()
        due = loop.time() + self.seconds
        if not self._waits:
            loop.call_at(due, self._end_due, loop)
        self._waits.append((due, wait))

    def _end_due(self, loop: asyncio.AbstractEventLoop) -> None:
        waits, now = self._waits, loop.time()
        while waits and (waits[0][0] <= now or waits[0][1].done()):
            end(waits.popleft()[1])
        if waits:
            loop.call_at(waits[0][0], self._end_due, loop)


def end(wait: Wait) -> None:
    """End a wait, unless it has ended."""
    if not wait.done():
        wait.set_result(None)
