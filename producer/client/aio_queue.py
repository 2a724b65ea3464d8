"""`AsyncQueue`: straight to Redis from asyncio."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import redis.asyncio

from producer.client.aio import AsyncMany
from producer.client.queue import Queue
from producer.client.retry import NEVER, Retry
from producer.client.wire import new_key
from producer.serving.waiting import LOOK_AGAIN_SECONDS
from producer.uploads.received import Pictures
from shared import keys
from shared.batch import Batch
from shared.connections.connection import direct
from shared.connections.liveness import Liveness
from shared.errors import DigitqError
from shared.keys import Priority
from shared.prediction import Prediction, ends
from shared.settings import Settings

log = logging.getLogger("digitq.client")
T = TypeVar("T")

#: Between two looks at a batch, in seconds.
BATCH_POLL_SECONDS = 0.1
#: How long closing waits for the subscription to end, and between two attempts to cancel it, in seconds.
CLOSE_SECONDS, CANCEL_AGAIN_SECONDS = 2.0, 0.1
#: How often it is looked whether the listener's server still leads.
TURN_SECONDS = 0.5
#: Before it listens again after a connection was lost.
PAUSE_SECONDS = 0.5


class AsyncQueue(AsyncMany):
    """`Queue` for asyncio, with the same arguments, errors, retries and idempotency keys.

    >>> async def main() -> int:
    ...     async with AsyncQueue(redis_url) as queue:
    ...         return (await queue.result(await queue.submit(image), timeout=10)).digit
    >>> asyncio.run(main())
    7

    The verbs are `Queue`'s, each a round trip on a thread of the event loop's executor; who waits holds no thread, but
    is told by one subscription for all, on `redis.asyncio`.
    """

    def __init__(
        self,
        url: str | None = None,
        settings: Settings | None = None,
        *,
        retry: Retry = Retry(),  # noqa: B008  # frozen
    ) -> None:
        self._queue = Queue(url, settings, retry=NEVER)
        self._retry = retry
        self._ears: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._listener: asyncio.Task[None] | None = None
        #: The listener's subscription; set once it stands, or could not be made.
        self._pubsub: redis.asyncio.client.PubSub | None = None
        self._settled = asyncio.Event()
        self._closed = False

    async def submit(
        self, image: bytes, filename: str = "", *, priority: Priority | str = Priority.NORMAL, idempotency_key: str = ""
    ) -> Prediction:
        """Puts one picture on the queue. Raises what the HTTP API answers: NoImage, UnsupportedType, QueueFull, …"""
        key = idempotency_key or new_key()
        found = await self._call(self._queue.submit, image, filename, priority=priority, idempotency_key=key)
        return replace(found, source=None)

    async def get(self, id: str, wait: float = 0) -> Prediction:
        """A prediction as it stands, or as it has ended within `wait` seconds. Raises NotFound, Expired, Lost."""
        end = time.monotonic() + wait
        with self._ear(id, wait > 0) as told:
            while True:
                told.clear()
                found = replace(await self._call(self._queue.get, id), source=None)
                left = end - time.monotonic()
                if found.state.terminal or left <= 0:
                    return found
                with suppress(TimeoutError):
                    await asyncio.wait_for(told.wait(), min(left, LOOK_AGAIN_SECONDS))

    async def cancel(self, id: str) -> None:
        """Takes a waiting picture back, or forgets one that has ended. Raises StillRunning, NotFound."""
        await asyncio.to_thread(self._queue.cancel, id)

    async def submit_batch(
        self, batch: Pictures, *, priority: Priority | str = Priority.LOW, idempotency_key: str = ""
    ) -> Batch:
        """Puts many pictures on the queue, all or none; see `Queue.submit_batch`."""
        key = idempotency_key or new_key()
        pictures = batch if isinstance(batch, bytes | Path) else list(batch)  # for each try again
        found = await self._call(self._queue.submit_batch, pictures, priority=priority, idempotency_key=key)
        return replace(found, source=None)

    async def get_batch(self, id: str, wait: float = 0) -> Batch:
        """A batch as it stands, or as it has ended within `wait` seconds. Raises NotFound, Expired, Lost."""
        end = time.monotonic() + wait
        while True:
            found = replace(await self._call(self._queue.get_batch, id), source=None)
            left = end - time.monotonic()
            if found.state.terminal or left <= 0:
                return found
            await asyncio.sleep(min(left, BATCH_POLL_SECONDS))

    async def results(self, id: str) -> Iterator[dict[str, Any]]:
        """The results of a batch as they stand, in the order of its pictures; see `shared.batch.COLUMNS`."""
        return iter(await self._call(lambda: list(self._queue.results(id))))

    async def cancel_batch(self, id: str) -> None:
        """Takes back what of a batch waits, or forgets one that has ended. Raises StillRunning, NotFound."""
        await asyncio.to_thread(self._queue.cancel_batch, id)

    async def aclose(self) -> None:
        """Closes the connections."""
        if self._listener is not None:
            # Not cancelled at once: redis-py may swallow that while it connects, or leave a TLS connection half closed.
            self._closed = True
            with suppress(TimeoutError):
                await asyncio.wait_for(self._end_subscription(), CLOSE_SECONDS)
            while not self._listener.done():
                self._listener.cancel()
                await asyncio.wait([self._listener], timeout=CANCEL_AGAIN_SECONDS)
        await asyncio.to_thread(self._queue.close)

    async def _call(self, function: Callable[..., T], *args: Any, **options: Any) -> T:
        """`Retry.run`, without holding a thread in its pauses."""
        began, tried = time.monotonic(), 0
        while True:
            try:
                return await asyncio.to_thread(function, *args, **options)
            except DigitqError as error:
                tried += 1
                pause = self._retry.pause(tried, error, time.monotonic() - began)
                if pause is None:
                    raise
            await asyncio.sleep(pause)

    # ------------------------------------------------------------------ being told

    @contextmanager
    def _ear(self, id: str, listen: bool) -> Iterator[asyncio.Event]:
        """An event that is set when the prediction may have ended."""
        told = asyncio.Event()
        self._ears[id].add(told)
        if listen and self._listener is None:
            self._listener = asyncio.create_task(self._listen())
        try:
            yield told
        finally:
            self._ears[id].discard(told)
            if not self._ears[id]:
                del self._ears[id]

    async def _end_subscription(self) -> None:
        await self._settled.wait()
        if self._pubsub is not None:
            with suppress(redis.RedisError):
                await self._pubsub.unsubscribe()
            await asyncio.wait([self._listener] if self._listener else [])

    async def _listen(self) -> None:
        while not self._closed:
            self._settled.clear()
            try:
                turn, url = self._queue._turn(), await asyncio.to_thread(direct, self._queue.settings.redis_url)
                client = redis.asyncio.Redis.from_url(url)
                async with client, client.pubsub() as pubsub:
                    await pubsub.subscribe(keys.EVENTS)
                    self._pubsub = pubsub
                    self._settled.set()
                    liveness, pause = Liveness(), 1 if turn is None else TURN_SECONDS
                    while pubsub.subscribed:
                        if message := await pubsub.get_message(timeout=pause):
                            liveness.heard()
                            self._hear(message)
                        elif liveness.ping_is_due():
                            await pubsub.ping()
                        if turn != self._queue._turn():
                            raise redis.ConnectionError("another leads now")
                    if pubsub.connection is not None:  # `aclose` would not wait until a TLS connection is closed
                        await pubsub.connection.disconnect()
            except Exception as error:  # whatever it is: who waits looks for himself meanwhile, every two seconds
                log.warning("redis: %s, listening again in %s s", error, PAUSE_SECONDS)
            self._pubsub = None
            self._settled.set()
            self._tell(list(self._ears))
            if not self._closed:
                await asyncio.sleep(PAUSE_SECONDS)

    def _hear(self, message: dict[str, Any]) -> None:
        if message["type"] == "message":
            self._tell(record["id"] for record in ends(message["data"]))
        elif message["type"] != "pong":
            self._tell(list(self._ears))  # something may have ended before we listened

    def _tell(self, ids: Iterable[str]) -> None:
        for id in ids:
            for told in self._ears.get(id, ()):
                told.set()
