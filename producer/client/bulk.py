"""Many pictures at once: submits with bounded concurrency, and polls in turns until all have ended."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from shared.prediction import Prediction

A = TypeVar("A")
B = TypeVar("B")
#: Concurrent calls.
PARALLEL = 16
#: How many items are read ahead of the results, as a multiple of the concurrent calls.
AHEAD = 4
#: Seconds of one poll while other predictions wait for their turn, and otherwise.
SHORT_SECONDS, LONG_SECONDS = 1.0, 5.0


class PollSchedule:
    """Chooses the predictions to poll next: they take turns, so that a slow one delays no other. Does no I/O."""

    def __init__(self, predictions: Iterable[Prediction], timeout: float, parallel: int) -> None:
        self._waiting = deque(predictions)
        self._timeout, self._end, self._parallel = timeout, time.monotonic() + timeout, parallel

    def due(self, running: int) -> Iterator[tuple[Prediction, float]]:
        """Yield predictions to poll now, each with the seconds to wait. Raises TimeoutError after the timeout."""
        seconds = LONG_SECONDS if len(self._waiting) + running <= self._parallel else SHORT_SECONDS
        for _ in range(min(self._parallel - running, len(self._waiting))):
            left = self._end - time.monotonic()
            if left <= 0:
                missing = len(self._waiting) + running
                raise TimeoutError(f"{missing} predictions have not ended after {self._timeout:g} s")
            yield self._waiting.popleft(), min(left, seconds)

    def has_ended(self, prediction: Prediction) -> bool:
        """Tells whether a prediction has ended; schedules another poll if not."""
        if not prediction.state.terminal:
            self._waiting.append(prediction)
        return prediction.state.terminal


def map_in_order(function: Callable[[A], B], items: Iterable[A], parallel: int = PARALLEL) -> Iterator[B]:
    """Yield `function(item)` for each item in order, from `parallel` threads; items are read only as far as needed.

    Raises the first error of the function. A caller that stops early does not wait for the calls under way.
    """
    pool = ThreadPoolExecutor(parallel)
    ahead: deque[Future[B]] = deque()
    try:
        for item in items:
            ahead.append(pool.submit(function, item))
            if len(ahead) >= AHEAD * parallel:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


async def map_in_order_async(
    function: Callable[[A], Awaitable[B]], items: Iterable[A], parallel: int
) -> AsyncIterator[B]:
    """Do the same on the event loop, with `parallel` concurrent calls; those under way in the end are cancelled."""
    free = asyncio.Semaphore(parallel)
    ahead: deque[asyncio.Task[B]] = deque()

    async def bounded(item: A) -> B:
        async with free:
            return await function(item)

    try:
        for item in items:
            ahead.append(asyncio.create_task(bounded(item)))
            if len(ahead) >= AHEAD * parallel:
                yield await ahead.popleft()
        while ahead:
            yield await ahead.popleft()
    finally:
        await cancel_all(ahead)


async def cancel_all(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait for their end."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
