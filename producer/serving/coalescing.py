"""Coalesces concurrent Redis calls: while one call is under way, the next requests gather and go as one.

Redis runs one large command faster than many small ones, and the process spends less on each.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

import redis

from producer.serving.line import SENT_AT_ONCE, LoopCalls
from shared.connections.connection import redis_errors
from shared.connections.script_calls import ScriptCall
from shared.errors import DigitqError

Q = TypeVar("Q")
A = TypeVar("A")
#: Requests, each with the future of its answer.
Group = list[tuple[Q, asyncio.Future[A]]]

#: Requests, and their bytes, that close a group: a larger one would take Redis longer than its client waits.
MAX_GROUP, MAX_GROUP_BYTES = 64, 1024 * 1024


class RequestCoalescer(Generic[Q, A]):
    """Makes one call at a time, with all requests that have gathered.

    `call` takes requests and returns one answer for each, in order, on a thread of its own; `size` returns the bytes of
    a request. Once that thread has connected, the loop sends what `as_script` returns, if it returns something: then no
    thread has to wake up. What fails that way is left to `call`, which mends it or raises why.
    """

    def __init__(
        self,
        client: redis.Redis,
        call: Callable[[Sequence[Q]], Sequence[A]],
        as_script: Callable[[Sequence[Q]], ScriptCall | None],
        size: Callable[[Q], int] = lambda _: 0,
    ) -> None:
        self._call, self._as_script, self._size = call, as_script, size
        self._calls = LoopCalls(client)
        self._gathered: deque[tuple[Q, asyncio.Future[A]]] = deque()
        self._busy = False
        self._groups: SimpleQueue[Group[Q, A]] = SimpleQueue()
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
        self._calls.close()

    def _send(self) -> None:
        group, size = self._next_group()
        self._busy = bool(group)
        if group and not (size <= SENT_AT_ONCE and self._calls.ready and self._send_script(group)):
            self._send_to_thread(group)

    def _send_script(self, group: Group[Q, A]) -> bool:
        """Send a group from the loop; return whether it is on its way."""
        try:
            script = self._as_script([request for request, _ in group])
        except Exception:  # the thread raises it for each request of the group
            return False
        if script is not None:
            self._calls.send(script, partial(self._answered, group))
        return script is not None

    def _answered(self, group: Group[Q, A], answer: Any) -> None:
        if isinstance(answer, redis.TimeoutError):
            try:
                with redis_errors():
                    raise answer
            except DigitqError as error:
                self._distribute(group, [error] * len(group))
        elif isinstance(answer, Exception):
            self._send_to_thread(group)
        else:
            self._distribute(group, answer)

    def _send_to_thread(self, group: Group[Q, A]) -> None:
        if self._thread is None:
            # Not an executor, which makes and chains two futures for each call.
            self._thread = threading.Thread(target=self._run, args=(group[0][1].get_loop(),), name="redis", daemon=True)
            self._thread.start()
        self._groups.put(group)

    def _next_group(self) -> tuple[Group[Q, A], int]:
        group: Group[Q, A] = []
        size = 0
        while self._gathered and len(group) < MAX_GROUP and size < MAX_GROUP_BYTES:
            group.append(self._gathered.popleft())
            size += self._size(group[-1][0])
        return group, size

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        while group := self._groups.get():
            answers: Sequence[A | Exception]
            try:
                answers = self._call([request for request, _ in group])
            except Exception as error:
                answers = [error] * len(group)
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._distribute, group, answers)
                if answers and not isinstance(answers[0], Exception):
                    self._calls.connect(loop)

    def _distribute(self, group: Group[Q, A], answers: Sequence[A | Exception]) -> None:
        if isinstance(answers[0], Exception):
            more, _ = self._next_group()  # they would only wait for the same error
            group, answers = group + more, [*answers, *[answers[0]] * len(more)]
        for (_, future), answer in zip(group, answers, strict=True):
            if future.done():  # its request was cancelled
                continue
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)
        self._send()
