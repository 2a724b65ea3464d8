"""Coalesces concurrent Redis calls: while one call is under way, the next requests gather and go as one.

Redis runs one large command faster than many small ones, and the process spends less on each.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import SimpleQueue
from typing import Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")

#: Requests, and their bytes, that close a group: a larger one would take Redis longer than its client waits.
MAX_GROUP, MAX_GROUP_BYTES = 64, 1024 * 1024


class RequestCoalescer(Generic[Q, A]):
    """Makes one call at a time, on a thread of its own, with all requests that have gathered.

    `call` takes requests and returns one answer for each, in order; `size` returns the bytes of a request.
    """

    def __init__(self, call: Callable[[Sequence[Q]], Sequence[A]], size: Callable[[Q], int] = lambda _: 0) -> None:
        self._call, self._size = call, size
        self._gathered: deque[tuple[Q, asyncio.Future[A]]] = deque()
        self._busy = False
        self._groups: SimpleQueue[list[tuple[Q, asyncio.Future[A]]]] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def gathered(self) -> int:
        """Return how many requests wait for the next call."""
        return len(self._gathered)

    async def call(self, request: Q) -> A:
        """Return the answer to one request. Raises what the call raises."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[A] = loop.create_future()
        self._gathered.append((request, answer))
        if not self._busy:
            self._busy = True
            loop.call_soon(self._send)  # with all that this turn of the loop still brings
        return await answer

    def close(self) -> None:
        """End the thread."""
        if self._thread is not None:
            self._groups.put([])
            self._thread.join()

    def _send(self) -> None:
        group = self._next_group()
        self._busy = bool(group)
        if not group:
            return
        if self._thread is None:
            # Not an executor, which makes and chains two futures for each call.
            self._thread = threading.Thread(target=self._run, args=(group[0][1].get_loop(),), name="redis", daemon=True)
            self._thread.start()
        self._groups.put(group)

    def _next_group(self) -> list[tuple[Q, asyncio.Future[A]]]:
        group: list[tuple[Q, asyncio.Future[A]]] = []
        size = 0
        while self._gathered and len(group) < MAX_GROUP and size < MAX_GROUP_BYTES:
            group.append(self._gathered.popleft())
            size += self._size(group[-1][0])
        return group

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        while group := self._groups.get():
            answers: Sequence[A | Exception]
            try:
                answers = self._call([request for request, _ in group])
            except Exception as error:
                answers = [error] * len(group)
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._distribute, group, answers)

    def _distribute(self, group: list[tuple[Q, asyncio.Future[A]]], answers: Sequence[A | Exception]) -> None:
        if isinstance(answers[0], Exception):
            more = self._next_group()  # they would only wait for the same error
            group, answers = group + more, [*answers, *[answers[0]] * len(more)]
        for (_, future), answer in zip(group, answers, strict=True):
            if future.done():  # its request was cancelled
                continue
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)
        self._send()
