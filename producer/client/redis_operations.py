"""digitq's operations straight on Redis, as coroutines: `AsyncQueue` is made of them, and `Queue` runs them."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar, cast

from producer.client.images import Image, PictureBatch, batch_file, name_and_data
from producer.client.retry import Retry, Waitable, new_key, poll
from producer.uploads.admission import admit, clean_filename
from producer.uploads.received import Received, gathered
from shared.batch import Batch, BatchResult
from shared.batches import Batches
from shared.connections.connection import connect
from shared.connections.redis_failures import with_address
from shared.errors import BadRequest, RedisUnavailable
from shared.ids import new_id
from shared.keys import Priority
from shared.numbers import READ_IS, Read, known_read
from shared.prediction import Prediction
from shared.settings import Settings
from shared.store import Store
from shared.submission import Submission

T = TypeVar("T")
#: Connections to Redis of one process, at most.
CONNECTIONS = 1032


class RedisOperations(ABC):
    """The operations. A subclass waits either on the calling thread or on an event loop."""

    def __init__(self, url: str | None, settings: Settings | None, retry: Retry) -> None:
        settings = settings or Settings.from_env()
        self.settings = replace(settings, redis_url=url) if url else settings
        self._retry = retry
        self._store = Store(connect(self.settings.redis_url, connections=CONNECTIONS), self.settings)
        self._batches = Batches(self._store)

    @abstractmethod
    async def _submit_once(self, submission: Submission) -> Prediction:
        """Submit one picture, in one call with others that are submitted at the same time."""

    @abstractmethod
    async def _read_once(self, id: str, seconds: float) -> Prediction:
        """Return a prediction, once it has ended or `seconds` are over; a subscription tells of the end."""

    @abstractmethod
    async def _call(self, function: Callable[..., T], *args: Any) -> T:
        """Call a function that blocks on Redis."""

    @abstractmethod
    async def _sleep(self, seconds: float, /) -> None:
        """Wait."""

    async def submit(
        self, image: Image, filename: str = "", *, priority: Priority | str = Priority.NORMAL,
        idempotency_key: str = "", read: Read = "digit",
    ) -> Prediction:  # fmt: skip
        """Submit one picture. Raises what the HTTP API answers (NoImage, UnsupportedType, QueueFull, …)."""
        _check_read(read)
        name, data = (filename, image) if isinstance(image, bytes) else await self._call(name_and_data, image, filename)
        admit(data, self.settings)
        name, priority, key = clean_filename(name), Priority(priority), idempotency_key or new_key()

        def attempt() -> Awaitable[Prediction]:
            return self._submit_once(Submission(new_id(), data, name, priority, key, read=read))

        return await self._repeat(attempt)

    async def get(self, id: str, wait: float = 0) -> Prediction:
        """Return a prediction, once it has ended or `wait` seconds are over. Raises NotFound, Expired, Lost."""
        return await self._poll(partial(self._read, id), wait)

    async def _read(self, id: str, end: float) -> Prediction:
        left = end - time.monotonic()
        return await (self._read_once(id, left) if left > 0 else self._call(self._store.fetch, id))

    async def cancel(self, id: str) -> None:
        """Cancel a waiting prediction or delete one that has ended. Raises StillRunning, NotFound."""
        with self._address_in_errors():
            await self._call(self._store.cancel, id)

    async def submit_batch(
        self, batch: PictureBatch, *, priority: Priority | str = Priority.LOW, idempotency_key: str = "",
        read: Read = "digit",
    ) -> Batch:  # fmt: skip
        """Submit many pictures, all or none: a zip or an IDX file, or pictures, each alone or as (name, picture)."""
        _check_read(read)
        key = idempotency_key or new_key()
        with ExitStack() as stack:
            body = await self._call(stack.enter_context, gathered(batch_file(batch)))
            fingerprint = await self._call(body.fingerprint)
            submit = partial(self._submit_body, body, Priority(priority), key, fingerprint, read)
            return await self._repeat(lambda: self._call(submit))

    def _submit_body(self, body: Received, priority: Priority, key: str, fingerprint: str, read: Read) -> Batch:
        upload = body.upload(self.settings)
        return self._batches.submit(
            upload.chunks, upload.total, priority=priority, idempotency_key=key, fingerprint=fingerprint,
            skipped=lambda: upload.skipped, read=read, filename=clean_filename(body.filename),
        )  # fmt: skip

    async def get_batch(self, id: str, wait: float = 0) -> Batch:
        """Return a batch, once it has ended or `wait` seconds are over. Raises NotFound, Expired, Lost."""
        return await self._poll(partial(self._watch, id), wait)

    async def _watch(self, id: str, end: float) -> Batch:
        looks = self._batches.looks(id)
        while True:
            batch, pause = await self._call(lambda: next(looks))
            left = end - time.monotonic()
            if batch.state.terminal:
                return batch
            if left <= 0:
                return await self._call(self._batches.fetch, id)
            await self._sleep(min(pause, left))

    async def results(self, id: str) -> list[BatchResult]:
        """Return the results of a batch so far, in the order of its pictures."""
        return await self._repeat(partial(self._call, self._rows, id))

    def _rows(self, id: str) -> list[BatchResult]:
        return cast(list[BatchResult], list(self._batches.results(id)))

    async def cancel_batch(self, id: str) -> None:
        """Cancel the waiting pictures of a batch or delete one that has ended. Raises StillRunning, NotFound."""
        with self._address_in_errors():
            await self._call(self._batches.cancel, id)

    async def _poll(self, look: Callable[[float], Awaitable[Waitable]], wait: float) -> Waitable:
        """Poll with `look(end)`, which returns by the monotonic time `end` at the latest."""

        def repeated(seconds: float) -> Awaitable[Waitable]:
            return self._repeat(partial(look, time.monotonic() + seconds))

        return await poll(repeated, wait, self._sleep)

    async def _repeat(self, attempt: Callable[[], Awaitable[T]]) -> T:
        with self._address_in_errors():
            return await self._retry.run(attempt, self._sleep)

    @contextmanager
    def _address_in_errors(self) -> Iterator[None]:
        try:
            yield
        except RedisUnavailable as error:
            with_address(error, self.settings.redis_url)
            raise


def _check_read(read: Read) -> None:
    """Raise BadRequest unless pictures can be read in this way."""
    if known_read(read) is None:
        raise BadRequest(READ_IS)
