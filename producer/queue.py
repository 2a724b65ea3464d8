"""Submitting from Python straight to Redis, without a web process in between."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from producer.admission import admit, clean_filename
from producer.waiting import Waiters
from shared.keys import Priority
from shared.prediction import Prediction
from shared.settings import Settings
from shared.store import Store, connect

#: Threads of one process that may wait for predictions at the same time.
MAX_WAITING = 1000


class Queue:
    """`Queue("redis://…").submit(image).wait().digit`. One object serves any number of threads."""

    def __init__(self, url: str | None = None, settings: Settings | None = None) -> None:
        settings = settings or Settings.from_env()
        self.settings = replace(settings, redis_url=url) if url else settings
        self._store = Store(connect(self.settings.redis_url), self.settings)
        self._waiters = Waiters(self._store, MAX_WAITING)

    def submit(
        self,
        image: bytes,
        filename: str = "",
        *,
        priority: Priority | str = Priority.NORMAL,
        idempotency_key: str = "",
    ) -> Prediction:
        """Puts one picture on the queue. Raises what the HTTP API answers: NoImage, UnsupportedType, QueueFull, …"""
        admit(image, self.settings)
        prediction = self._store.submit(
            image, clean_filename(filename), priority=Priority(priority), idempotency_key=idempotency_key
        )
        return replace(prediction, source=self)

    def submit_many(self, images: Iterable[bytes], *, priority: Priority | str = Priority.NORMAL) -> list[Prediction]:
        """Puts many pictures on the queue, in order; each is a job of its own."""
        return [self.submit(image, priority=priority) for image in images]

    def get(self, id: str, wait: float = 0) -> Prediction:
        """A prediction as it stands, or as it has ended within `wait` seconds. Raises NotFound, Expired, Lost."""
        prediction = self._waiters.wait(id, wait) if wait else self._store.fetch(id)
        return replace(prediction, source=self)

    def cancel(self, id: str) -> None:
        """Takes a waiting picture back, or forgets one that has ended. Raises StillRunning, NotFound."""
        self._store.cancel(id)

    def close(self) -> None:
        """Closes the connections."""
        self._waiters.close()
        self._store.client.close()
