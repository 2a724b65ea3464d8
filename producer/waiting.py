"""Waiting for the end of predictions: one pub/sub connection per process, however many wait or listen.

Two kinds are told: requests that wait for one prediction, each through an inbox of its own, and feeds, which hear
of all (the event stream). Both take a seat, because each of them occupies one of the server's threads.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from producer.together import Together, Upload
from shared import keys
from shared.prediction import Prediction
from shared.store import Store
from shared.submission import Submission

log = logging.getLogger("digitq.web")

#: What a waiting request is told: the record that has ended, or None, to look for itself.
Inbox = SimpleQueue[dict[str, str] | None]

#: A waiting request looks again by itself this often, should a message be lost with a connection.
LOOK_AGAIN_SECONDS = 2.0
#: Past its time a request waits on only for a picture that is still being handed in.
SHORTEST_WAIT_SECONDS = 0.01


class Feed(Protocol):
    """Hears of every end, on the listening thread: it has to be quick and must not raise."""

    def heard(self, ended: list[list[str]]) -> None:
        """The records of one message, each [id, field, value, …]."""

    def missed(self) -> None:
        """Something may have ended that was not heard: the connection is new, or was lost."""


class Waiters:
    """Waiting requests by prediction id, and feeds, told when Redis announces the end."""

    def __init__(self, store: Store, limit: int) -> None:
        self._store, self._limit = store, limit
        self.together = Together(store)
        self._inboxes: defaultdict[str, set[Inbox]] = defaultdict(set)
        self._feeds: tuple[Feed, ...] = ()
        self._lock = threading.Lock()
        self._count = 0
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def submit(self, picture: Submission, seconds: float = 0) -> Prediction:
        """Hands in a picture and waits for its end as `wait` does. Raises what Store.submit raises."""
        with self._inbox(picture.id, seconds > 0) as inbox:
            if not inbox:
                return self.together.submit(picture)
            upload = self.together.send(picture, inbox)
            return self._ended(picture.id, inbox, seconds, upload)

    def wait(self, id: str, seconds: float, owner: str | None = None) -> Prediction:
        """The prediction once it has ended, or as it stands after `seconds` or when the process stops.

        Past the bound on waiting requests it answers at once: the client polls. Raises what Store.fetch raises, also
        where it is not the owner's.
        """
        with self._inbox(id, seconds > 0) as inbox:
            prediction = self._store.fetch(id, owner)
            return prediction if prediction.state.terminal or not inbox else self._ended(id, inbox, seconds)

    def _ended(self, id: str, inbox: Inbox, seconds: float, upload: Upload | None = None) -> Prediction:
        end = time.monotonic() + seconds
        while True:
            left = end - time.monotonic()
            try:
                record = inbox.get(timeout=min(max(left, SHORTEST_WAIT_SECONDS), LOOK_AGAIN_SECONDS))
            except Empty:
                record = None
            if record:
                return Prediction.from_hash(id, record)
            if upload:
                upload.quiet = False  # what was to be looked at now is looked at with the answer
                if upload.answer is None:  # there is nothing to look at before it is handed in
                    continue
                first, upload = self.together.accepted(upload), None
                if first.id != id:  # repeated: the first one under the same key
                    return self.wait(first.id, end - time.monotonic())
            prediction = self._store.fetch(id)
            if prediction.state.terminal or left <= 0 or self._closed.is_set():
                return prediction

    @contextmanager
    def _inbox(self, id: str, wanted: bool) -> Iterator[Inbox | None]:
        inbox: Inbox = SimpleQueue()
        with self._lock:
            free = wanted and self._count < self._limit
            if free:
                self._count += 1
                self._inboxes[id].add(inbox)
                self._start()
        if not free:
            yield None
            return
        try:
            yield inbox
        finally:
            with self._lock:
                self._count -= 1
                self._inboxes[id].discard(inbox)
                if not self._inboxes[id]:
                    del self._inboxes[id]

    def seat(self, most: int, taken: int) -> bool:
        """Takes a seat for a listener, `taken` of whom sit already; at most `most` may. False if none is free."""
        with self._lock:
            free = self._count < self._limit and taken < most
            self._count += free
            return free

    def leave(self) -> None:
        """Gives the seat back."""
        with self._lock:
            self._count -= 1

    def follow(self, feed: Feed) -> None:
        """From now on the feed hears of every end, as long as the process lives."""
        with self._lock:
            self._feeds += (feed,)
            self._start()

    def _start(self) -> None:
        """On first use: the server forks or spawns its processes after it has made the application."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._listen, name="waiters", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Whoever waits is answered as it stands: the process is about to end."""
        self._closed.set()
        self._tell_all_to_look()

    def close(self) -> None:
        """Ends the thread, for a process that goes on without it."""
        self.stop()
        self.together.close()
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
                self._tell_all_to_look()  # they find out for themselves, and answer 503
                self._closed.wait(0.5)

    def _hear(self, message: dict[str, Any] | None) -> None:
        if message and message["type"] == "subscribe":
            self._tell_all_to_look()  # something may have ended before we listened
        elif message and message["type"] == "message":
            ended = json.loads(message["data"].decode("utf-8", "replace"))
            with self._lock:
                for id, *flat in ended:
                    for inbox in self._inboxes.get(id, ()):
                        inbox.put(dict(zip(flat[::2], flat[1::2], strict=True)))
            for feed in self._feeds:
                feed.heard(ended)

    def _tell_all_to_look(self) -> None:
        with self._lock:
            for inboxes in self._inboxes.values():
                for inbox in inboxes:
                    inbox.put(None)
        for feed in self._feeds:
            feed.missed()
