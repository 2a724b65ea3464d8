"""An inbox: anybody puts, one waits. A thread sleeps meanwhile; a task of the event loop lets the loop go on.

What waits is written once, as coroutines (producer/serving/waiting.py). On a thread nothing in them ever suspends, so
that `run` is all the loop that they need.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, Future
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
#: What one who waits is told: the record that has ended, or None, to look for himself.
Item = dict[str, str] | None


class Client(Protocol):
    """The client of a request that waits (see producer/serving/wsgi.py)."""

    gone: bool

    def watch(self, leave: Callable[[], None]) -> None:
        """Has `leave` called once the client has gone."""

    def unwatch(self) -> None:
        """Ends that."""


class Inbox(Protocol):
    """Where one request is told something."""

    #: How many of the server's threads the one who waits keeps.
    threads: int
    #: Who waits for the answer; None if that is not a request.
    client: Client | None

    def put(self, item: Item) -> None:
        """From any thread; never waits."""

    async def get(self, seconds: float | None = None) -> Item:
        """The next item. Raises TimeoutError after so many seconds (None: never)."""

    async def call(self, function: Callable[..., T], *args: Any) -> T:
        """Calls what may wait for Redis."""

    def another(self) -> Inbox:
        """One more, for the same one who waits."""


class ThreadInbox:
    """The one who waits is a thread."""

    threads = 1

    def __init__(self, client: Client | None = None) -> None:
        self.client = client
        self._items: SimpleQueue[Item] = SimpleQueue()
        self.put = self._items.put

    async def get(self, seconds: float | None = None) -> Item:  # noqa: D102
        try:
            return self._items.get(timeout=seconds)
        except Empty:
            raise TimeoutError from None

    async def call(self, function: Callable[..., T], *args: Any) -> T:  # noqa: D102
        return function(*args)

    def another(self) -> ThreadInbox:  # noqa: D102
        return ThreadInbox()


def run(waits: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never suspends: one that waits by a ThreadInbox."""
    try:
        waits.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    raise RuntimeError("it waits for a loop")


class LoopInbox:
    """The one who waits is a task."""

    threads = 0

    def __init__(self, carrier: Carrier, client: Client | None = None) -> None:
        self._carrier, self.client = carrier, client
        self._items: deque[Item] = deque()
        self._waits: Future[None] | None = None

    def put(self, item: Item) -> None:  # noqa: D102
        self._carrier.carry(self, item)

    def deliver(self, item: Item) -> None:
        """On the loop's thread."""
        self._items.append(item)
        self._wake()

    def _wake(self) -> None:
        if self._waits and not self._waits.done():
            self._waits.set_result(None)

    async def get(self, seconds: float | None = None) -> Item:  # noqa: D102
        if not self._items:
            loop = self._carrier.loop
            self._waits = loop.create_future()
            late = None if seconds is None else loop.call_later(seconds, self._wake)
            try:
                await self._waits
            finally:
                if late:
                    late.cancel()
        if not self._items:
            raise TimeoutError
        return self._items.popleft()

    async def call(self, function: Callable[..., T], *args: Any) -> T:  # noqa: D102
        return await self._carrier.loop.run_in_executor(self._carrier.pool, function, *args)

    def another(self) -> LoopInbox:  # noqa: D102
        return LoopInbox(self._carrier)


class Carrier:
    """Brings what other threads put to the inboxes of a loop: it is woken once, however much has gathered."""

    def __init__(self, loop: AbstractEventLoop, pool: Executor) -> None:
        #: `pool` has the threads for what may wait for Redis.
        self.loop, self.pool = loop, pool
        self._items: deque[tuple[LoopInbox, Item]] = deque()
        self._on_the_way = False

    def carry(self, inbox: LoopInbox, item: Item) -> None:
        """From any thread."""
        self._items.append((inbox, item))
        # Whoever sees True has put in its item before it is cleared below, which is before the items are looked at.
        if not self._on_the_way:
            self._on_the_way = True
            with suppress(RuntimeError):  # the loop has ended, and with it all who waited
                self.loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._on_the_way = False
        while self._items:
            inbox, item = self._items.popleft()
            inbox.deliver(item)
