"""Waiting for the end of a prediction: one pub/sub connection per process, however many wait."""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from shared import keys
from shared.prediction import Prediction
from shared.store import Store

log = logging.getLogger("digitq.web")

#: A waiting request looks again by itself this often, should a message be lost with a connection.
LOOK_AGAIN_SECONDS = 2.0


class Waiters:
    """Events by prediction id, set when Redis announces the end."""

    def __init__(self, store: Store, limit: int) -> None:
        self._store, self._limit = store, limit
        self._events: defaultdict[str, set[threading.Event]] = defaultdict(set)
        self._lock = threading.Lock()
        self._count = 0
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def wait(self, id: str, seconds: float) -> Prediction:
        """The prediction once it has ended, or as it stands after `seconds`.

        Past the bound on waiting requests it answers at once: the client polls. Raises what Store.fetch raises.
        """
        with self._watch(id) as event:
            end = time.monotonic() + seconds
            prediction = self._store.fetch(id)
            while event and not prediction.state.terminal and (left := end - time.monotonic()) > 0:
                event.wait(min(left, LOOK_AGAIN_SECONDS))
                event.clear()
                prediction = self._store.fetch(id)
        return prediction

    @contextmanager
    def _watch(self, id: str) -> Iterator[threading.Event | None]:
        event: threading.Event | None = None
        with self._lock:
            if self._count < self._limit:
                event = threading.Event()
                self._count += 1
                self._events[id].add(event)
                self._start()
        if event is None:
            yield None
            return
        try:
            yield event
        finally:
            with self._lock:
                self._count -= 1
                self._events[id].discard(event)
                if not self._events[id]:
                    del self._events[id]

    def _start(self) -> None:
        """On first use: the server forks or spawns its processes after it has made the application."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._listen, name="waiters", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Ends the thread, for a process that goes on without it."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()

    def _listen(self) -> None:
        while not self._closed.is_set():
            try:
                with self._store.client.pubsub() as pubsub:
                    pubsub.subscribe(keys.EVENTS)
                    while not self._closed.is_set():
                        self._hear(pubsub.get_message(timeout=1))
            except Exception as error:  # whatever it is, those who wait must end and the next one must be heard
                log.warning("redis: %s, listening again in 0.5 s", error)
                self._wake(None)  # they find out for themselves, and answer 503
                self._closed.wait(0.5)

    def _hear(self, message: dict[str, Any] | None) -> None:
        if message and message["type"] == "subscribe":
            self._wake(None)  # something may have ended before we listened
        elif message and message["type"] == "message":
            self._wake(message["data"].decode().split())

    def _wake(self, ids: list[str] | None) -> None:
        with self._lock:
            for id in list(self._events) if ids is None else ids:
                for event in self._events.get(id, ()):
                    event.set()
