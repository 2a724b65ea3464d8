"""Submitting from Python straight to Redis, without a web process in between."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from producer.client.many import Many
from producer.client.retry import Retry
from producer.client.wire import new_key
from producer.serving.blocking import BlockingWaiting
from producer.uploads.admission import admit, clean_filename
from producer.uploads.received import Pictures, gathered
from shared.batch import Batch
from shared.batches import Batches
from shared.connections.connection import turn
from shared.ids import new_id
from shared.keys import Priority
from shared.prediction import Prediction
from shared.settings import Settings
from shared.store import Store, connect
from shared.submission import Submission

#: Connections to Redis of one process, at most.
CONNECTIONS = 1032


class Queue(Many):
    """digitq over Redis. One object serves any number of threads.

    >>> with Queue(redis_url) as queue:
    ...     queue.submit(image, filename="im7.png").wait(timeout=10).digit
    7

    Where Redis is full or out of reach, calls are repeated as `retry` says; each submit carries an idempotency key, one
    of its own if none is given, so that a picture is never handed in twice.
    """

    def __init__(
        self,
        url: str | None = None,
        settings: Settings | None = None,
        *,
        retry: Retry = Retry(),  # noqa: B008  # frozen
    ) -> None:
        settings = settings or Settings.from_env()
        self.settings = replace(settings, redis_url=url) if url else settings
        self._retry = retry
        self._store = Store(connect(self.settings.redis_url, connections=CONNECTIONS), self.settings)
        self._batches = Batches(self._store)
        self._waiting = BlockingWaiting(self._store)

    def submit(
        self, image: bytes, filename: str = "", *, priority: Priority | str = Priority.NORMAL, idempotency_key: str = ""
    ) -> Prediction:
        """Puts one picture on the queue. Raises what the HTTP API answers: NoImage, UnsupportedType, QueueFull, …"""
        admit(image, self.settings)
        key = idempotency_key or new_key()
        name, priority = clean_filename(filename), Priority(priority)

        def submit() -> Prediction:
            return self._waiting.submit(Submission(new_id(), image, name, priority, key))

        return replace(self._retry.run(submit), source=self)

    def submit_batch(
        self,
        batch: Pictures,
        *,
        priority: Priority | str = Priority.LOW,
        idempotency_key: str = "",
    ) -> Batch:
        """Puts many pictures on the queue, all or none: a zip or an IDX file, or pictures, each with or without a name.

        Pictures that cannot be read fail alone. Raises what the HTTP API answers: MalformedBatch, QueueFull, …
        """
        key = idempotency_key or new_key()
        with gathered(batch) as body:
            fingerprint = body.fingerprint()

            def submit() -> Batch:
                upload = body.upload(self.settings)
                return self._batches.submit(
                    upload.chunks, upload.total, priority=Priority(priority), idempotency_key=key,
                    fingerprint=fingerprint, skipped=lambda: upload.skipped,
                )  # fmt: skip

            return replace(self._retry.run(submit), source=self)

    def get_batch(self, id: str, wait: float = 0) -> Batch:
        """A batch as it stands, or as it has ended within `wait` seconds. Raises NotFound, Expired, Lost."""
        return replace(self._retry.run(partial(self._batches.wait, id, wait)), source=self)

    def results(self, id: str) -> Iterator[dict[str, Any]]:
        """The results of a batch as they stand, in the order of its pictures; see `shared.batch.COLUMNS`."""
        return self._retry.run(partial(self._batches.results, id))

    def cancel_batch(self, id: str) -> None:
        """Takes back what of a batch waits, or forgets one that has ended. Raises StillRunning, NotFound."""
        self._batches.cancel(id)

    def get(self, id: str, wait: float = 0) -> Prediction:
        """A prediction as it stands, or as it has ended within `wait` seconds. Raises NotFound, Expired, Lost."""
        end = time.monotonic() + wait

        def look() -> Prediction:
            left = end - time.monotonic()
            return self._waiting.fetch(id, left) if left > 0 else self._store.fetch(id)

        return replace(self._retry.run(look), source=self)

    def cancel(self, id: str) -> None:
        """Takes a waiting picture back, or forgets one that has ended. Raises StillRunning, NotFound."""
        self._store.cancel(id)

    def _turn(self) -> int | None:
        """Changes when Redis's primary is replaced; for the twin, which listens by a connection of its own."""
        return turn(self._store.client)

    def close(self) -> None:
        """Closes the connections."""
        self._waiting.close()
        self._store.client.close()

    def __enter__(self) -> Queue:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
