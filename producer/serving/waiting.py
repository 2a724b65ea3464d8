"""Submits predictions and waits for their end, on the event loop: one pub/sub connection serves all waiting requests.

A waiting request holds no thread. Feeds, such as the event stream, are told of every end.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from asyncio import AbstractEventLoop
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol

import redis
from redis.client import PubSub

from producer.serving.coalescing import RequestCoalescer
from producer.serving.connection import Connection
from shared import keys
from shared.connections.liveness import Liveness
from shared.prediction import Prediction
from shared.record import ends
from shared.store import Answer, Record, Store
from shared.submission import Submission

log = logging.getLogger("digitq.web")

#: A waiting request reads its prediction again this often, in case a message was lost with a connection.
LOOK_AGAIN_SECONDS = 2.0
#: After this wait a request begins to watch whether its client has disconnected.
WATCH_SECONDS = 0.5
#: Before the subscription is made again after an error.
RECONNECT_SECONDS = 0.5


class Feed(Protocol):
    """Is told of every end, on the event loop; must be quick and must not raise."""

    def ended(self, records: list[dict[str, str]]) -> None:
        """Take the records of one message, each with its `id`."""

    def missed(self) -> None:
        """Some ends may have been missed: the connection is new, or was lost."""


class Waiter:
    """One request that waits: holds the ended record, or the hint to read it from Redis."""

    __slots__ = ("_future", "_hinted", "record")

    def __init__(self) -> None:
        self.record: dict[str, str] | None = None
        self._hinted = False
        self._future: asyncio.Future[None] | None = None

    def tell(self, record: dict[str, str] | None = None) -> None:
        """Wakes the request with the ended record, or without one to read it."""
        self.record, self._hinted = record or self.record, True
        self._wake()

    def _wake(self) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    async def told(self, seconds: float) -> bool:
        """Wait until told, for at most `seconds`; return whether it was told."""
        if not self._hinted:
            loop = asyncio.get_running_loop()
            self._future = loop.create_future()
            # `asyncio.timeout` costs several times as much.
            timer = loop.call_later(max(seconds, 0), self._wake)
            try:
                await self._future
            finally:
                timer.cancel()
        hinted, self._hinted = self._hinted, False
        return hinted


class Waiting:
    """Submits and reads predictions, and waits for their end. All methods but `stop` are for one event loop."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.uploads: RequestCoalescer[Submission, Answer] = RequestCoalescer(
            store.submit_all, lambda picture: len(picture.image)
        )
        self.reads: RequestCoalescer[str, Record] = RequestCoalescer(store.fetch_all)
        self._waiters: defaultdict[str, set[Waiter]] = defaultdict(set)
        self._feeds: list[Feed] = []
        self._listener: threading.Thread | None = None
        self._pubsub: PubSub | None = None
        self._stopped = threading.Event()

    @property
    def stopped(self) -> bool:
        """True once the process is about to end, so that no request should wait any longer."""
        return self._stopped.is_set()

    async def submit(self, picture: Submission, seconds: float = 0, connection: Connection | None = None) -> Prediction:
        """Submit a picture and wait for its end as `fetch` does. Raises what Store.submit raises."""
        end = time.monotonic() + seconds
        with self._waiter(picture.id, seconds > 0) as waiter:
            answer = await self.uploads.call(picture)
            if answer[0] == b"repeated":  # the first one under its idempotency key has to be read
                accepted = await asyncio.to_thread(self._store.accepted, picture, answer)
            else:
                accepted = self._store.accepted(picture, answer)
            if seconds <= 0:
                return accepted
            if accepted.id == picture.id:
                return await self._end(picture.id, end, waiter, connection)
        return await self.fetch(accepted.id, end - time.monotonic(), None, connection)

    async def fetch(
        self, id: str, seconds: float = 0, owner: str | None = None, connection: Connection | None = None
    ) -> Prediction:
        """Return the prediction once it has ended, at the latest after `seconds`.

        Returns earlier when the process stops or the client disconnects. Raises what Store.fetch raises, also where
        the prediction is not the owner's.
        """
        end = time.monotonic() + seconds
        with self._waiter(id, seconds > 0) as waiter:
            prediction = await self._read(id, owner)
            if prediction.state.terminal or seconds <= 0:
                return prediction
            return await self._end(id, end, waiter, connection)

    async def _read(self, id: str, owner: str | None) -> Prediction:
        if record := await self.reads.call(id):
            return self._store.found(id, record, owner)
        return await asyncio.to_thread(self._store.fetch, id, owner)  # raises why there is none

    async def _end(self, id: str, end: float, waiter: Waiter, connection: Connection | None) -> Prediction:
        watching = connection is None
        while True:
            left = end - time.monotonic()
            told = await waiter.told(min(left, LOOK_AGAIN_SECONDS if watching else WATCH_SECONDS))
            if waiter.record:
                return Prediction.from_record(id, waiter.record)
            if not told and connection and not watching and left > WATCH_SECONDS:
                watching = True
                connection.watch(waiter.tell)
                continue
            prediction = await self._read(id, None)
            gone = connection is not None and connection.gone
            if prediction.state.terminal or gone or self.stopped or end <= time.monotonic():
                return prediction

    @contextmanager
    def _waiter(self, id: str, listen: bool) -> Iterator[Waiter]:
        waiter = Waiter()
        if not listen:
            yield waiter
            return
        self._waiters[id].add(waiter)
        self._listen()
        try:
            yield waiter
        finally:
            self._waiters[id].discard(waiter)
            if not self._waiters[id]:
                del self._waiters[id]

    # ------------------------------------------------------------------ the subscription

    def follow(self, feed: Feed) -> None:
        """Tells the feed of every end from now on."""
        self._feeds.append(feed)
        self._listen()

    def _listen(self) -> None:
        """Start to listen on first use: the server starts its processes after the application was made."""
        if self._listener is None:
            loop = asyncio.get_running_loop()
            self._listener = threading.Thread(target=self._run, args=(loop,), name="listener", daemon=True)
            self._listener.start()

    def stop(self) -> None:
        """Lets every waiting request be answered now. Called on the loop."""
        self._stopped.set()
        self._missed()

    def close(self) -> None:
        """End the threads, for a process that goes on without them. Called after the loop has ended."""
        self._stopped.set()
        self.uploads.close()
        self.reads.close()
        if (pubsub := self._pubsub) is not None:
            with suppress(redis.RedisError):
                pubsub.unsubscribe()  # its answer wakes the thread
        if self._listener is not None:
            self._listener.join()

    def _run(self, loop: AbstractEventLoop) -> None:
        """Listen, on a thread: redis-py's asyncio client has no Sentinel failover like ours."""
        while not self.stopped:
            try:
                self._subscribe(loop)
            except Exception as error:  # whatever it is, the waiting requests and the next message must be heard
                log.warning("redis: %s, listening again in %s s", error, RECONNECT_SECONDS)
                _call(loop, self._missed)  # each request reads for itself, and answers 503
                self._stopped.wait(RECONNECT_SECONDS)

    def _subscribe(self, loop: AbstractEventLoop) -> None:
        with self._store.client.pubsub() as pubsub:
            pubsub.subscribe(keys.EVENTS)
            liveness, self._pubsub = Liveness(), pubsub
            while not self.stopped:
                message = pubsub.get_message(timeout=1)
                if message:
                    liveness.heard()
                    self._hear(message, loop)
                elif liveness.ping_is_due():
                    pubsub.ping()

    def _hear(self, message: dict[str, Any], loop: AbstractEventLoop) -> None:
        if message["type"] == "subscribe":
            _call(loop, self._missed)  # something may have ended before
        elif message["type"] == "message":
            _call(loop, self._ended, ends(message["data"]))

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


def _call(loop: AbstractEventLoop, function: Any, *args: Any) -> None:
    """Call a function on the loop, from another thread; the loop may have ended."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(function, *args)
