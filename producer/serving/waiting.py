"""Submits predictions and waits for their end, on the event loop: one pub/sub connection serves all waiting requests.

A waiting request holds no thread. Feeds, such as the event stream, are told of every end.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

from producer.serving.coalescing import RequestCoalescer
from producer.serving.connection import Connection
from producer.serving.subscription import Subscription
from producer.serving.timeouts import Timeouts, Wait, end
from shared.operations.predictions import Record
from shared.operations.submissions import Answer
from shared.prediction import Prediction
from shared.store import Store
from shared.submission import Submission

#: A waiting request reads its prediction again this often, in case a message was lost with a connection.
LOOK_AGAIN_SECONDS = 2.0
#: After this wait a request begins to watch whether its client has disconnected.
WATCH_SECONDS = 0.5


class Feed(Protocol):
    """Is told of every end, on the event loop; must be quick and must not raise."""

    def ended(self, records: list[dict[str, str]]) -> None:
        """Take the records of one message, each with its `id`."""

    def missed(self) -> None:
        """Some ends may have been missed: the connection is new, or was lost."""


class Waiter:
    """One request that waits, in `among` until it leaves: holds the ended record, or the hint to read it from Redis."""

    __slots__ = ("_among", "_future", "_hinted", "_id", "record")

    def __init__(self, among: Waiters | None, id: str) -> None:
        self._among, self._id = among, id
        if among is not None:
            among.setdefault(id, []).append(self)
        self.record: dict[str, str] | None = None
        self._hinted = False
        self._future: Wait | None = None

    def leave(self) -> None:
        """Be told nothing more."""
        if self._among is not None:
            beside = self._among[self._id]
            beside.remove(self)
            if not beside:
                del self._among[self._id]

    def tell(self, record: dict[str, str] | None = None) -> None:
        """Wakes the request with the ended record, or without one to read it."""
        self.record, self._hinted = record or self.record, True
        if self._future is not None:
            end(self._future)

    async def told(self, seconds: float | Timeouts) -> bool:
        """Wait until told, for at most `seconds`; return whether it was told."""
        if not self._hinted:
            loop = asyncio.get_running_loop()
            self._future = loop.create_future()
            if isinstance(seconds, Timeouts):
                seconds.add(self._future)
            else:
                loop.call_later(max(seconds, 0), end, self._future)
            await self._future
        hinted, self._hinted = self._hinted, False
        return hinted


#: By id.
Waiters = dict[str, list[Waiter]]


class Waiting:
    """Submits and reads predictions, and waits for their end. All methods but `stop` are for one event loop."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.uploads: RequestCoalescer[Submission, Answer] = RequestCoalescer(
            store.client, store.submit_all, store.submit_call, lambda picture: len(picture.image)
        )
        self.reads: RequestCoalescer[str, Record] = RequestCoalescer(store.client, store.fetch_all, store.fetch_call)
        self._waiters: Waiters = {}
        self._watch = Timeouts(WATCH_SECONDS)
        self._feeds: list[Feed] = []
        self._subscription = Subscription(store.client, self._ended, self._missed)

    @property
    def stopped(self) -> bool:
        """True once the process is about to end, so that no request should wait any longer."""
        return self._subscription.stopped

    async def submit(self, picture: Submission, seconds: float = 0, connection: Connection | None = None) -> Prediction:
        """Submit a picture and wait for its end as `fetch` does. Raises what Store.submit raises."""
        until = time.monotonic() + seconds
        waiter = self._waiter(picture.id, seconds > 0)
        try:
            answer = await self.uploads.call(picture)
            if answer[0] == b"accepted" and seconds > 0:
                return await self._end(picture.id, until, waiter, connection)
            if answer[0] == b"repeated":  # the first one under its idempotency key has to be read
                accepted = await asyncio.to_thread(self._store.accepted, picture, answer)
            else:
                accepted = self._store.accepted(picture, answer)
            if seconds <= 0:
                return accepted
            if accepted.id == picture.id:
                return await self._end(picture.id, until, waiter, connection)
        finally:
            waiter.leave()
        return await self.fetch(accepted.id, until - time.monotonic(), None, connection)

    async def fetch(
        self, id: str, seconds: float = 0, owner: str | None = None, connection: Connection | None = None
    ) -> Prediction:
        """Return the prediction once it has ended, at the latest after `seconds`.

        Returns earlier when the process stops or the client disconnects. Raises what Store.fetch raises, also where
        the prediction is not the owner's.
        """
        until = time.monotonic() + seconds
        waiter = self._waiter(id, seconds > 0)
        try:
            prediction = await self._read(id, owner)
            if prediction.state.terminal or seconds <= 0:
                return prediction
            return await self._end(id, until, waiter, connection)
        finally:
            waiter.leave()

    async def _read(self, id: str, owner: str | None) -> Prediction:
        if record := await self.reads.call(id):
            return self._store.found(id, record, owner)
        return await asyncio.to_thread(self._store.fetch, id, owner)  # raises why there is none

    async def _end(self, id: str, until: float, waiter: Waiter, connection: Connection | None) -> Prediction:
        watching = connection is None
        while True:
            left = until - time.monotonic()
            told = await waiter.told(min(left, LOOK_AGAIN_SECONDS) if watching or left < WATCH_SECONDS else self._watch)
            if waiter.record:
                return Prediction.from_record(id, waiter.record)
            if not told and connection and not watching and left > WATCH_SECONDS:
                watching = True
                connection.watch(waiter.tell)
                continue
            prediction = await self._read(id, None)
            gone = connection is not None and connection.gone
            if prediction.state.terminal or gone or self.stopped or until <= time.monotonic():
                return prediction

    def _waiter(self, id: str, listen: bool) -> Waiter:
        if listen:
            self._subscription.start()
        return Waiter(self._waiters if listen else None, id)

    # ------------------------------------------------------------------ ends

    def follow(self, feed: Feed) -> None:
        """Tell the feed of every end from now on."""
        self._feeds.append(feed)
        self._subscription.start()

    def stop(self) -> None:
        """Let every waiting request be answered now. Called on the loop."""
        self._subscription.stop()
        self._missed()

    def close(self) -> None:
        """End the threads, for a process that goes on without them. Called after the loop has ended."""
        self.uploads.close()
        self.reads.close()
        self._subscription.close()

    def _ended(self, records: list[dict[str, str]]) -> None:
        for record in records:
            for waiter in self._waiters.get(record["id"], ()):
                waiter.tell(record)
        for feed in self._feeds:
            feed.ended(records)

    def _missed(self) -> None:
        for waiters in self._waiters.values():
            for waiter in waiters:
                waiter.tell()
        for feed in self._feeds:
            feed.missed()
