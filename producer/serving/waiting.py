"""Waiting for the end of predictions: one pub/sub connection per process, however many wait or listen.

Two kinds are told: requests that wait for one prediction, each through an inbox of its own, and feeds, which hear
of all (the event stream). Those that keep one of the server's threads take a seat.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol

import redis
from redis.client import PubSub

from producer.serving.inbox import Client, Inbox, ThreadInbox, run
from producer.serving.together import Errand, Together
from shared import keys
from shared.connections.liveness import Liveness
from shared.prediction import Prediction, ends
from shared.store import Answer, Record, Store
from shared.submission import Submission

log = logging.getLogger("digitq.web")

#: A waiting request looks again by itself this often, should a message be lost with a connection.
LOOK_AGAIN_SECONDS = 2.0
#: After so long it is worth while to learn whether the client of a request that waits has gone.
WATCH_SECONDS = 0.5
#: Past its time a request waits on only for a picture that is still being handed in.
SHORTEST_WAIT_SECONDS = 0.01
#: Seconds after which the listening thread looks whether it is to end.
LISTEN_SECONDS = 1.0


class Feed(Protocol):
    """Hears of every end, on the listening thread: it has to be quick and must not raise."""

    def heard(self, ended: list[dict[str, str]]) -> None:
        """The records of one message, each with its `id`."""

    def missed(self) -> None:
        """Something may have ended that was not heard: the connection is new, or was lost."""


class Waiters:
    """Waiting requests by prediction id, and feeds, told when Redis announces the end."""

    def __init__(self, store: Store, limit: int) -> None:
        self._store, self._limit = store, limit
        self.uploads: Together[Submission, Answer] = Together(
            store.submit_all, lambda picture: len(picture.image), lambda answer: answer[0] == b"accepted"
        )
        self.looks: Together[str, Record] = Together(store.fetch_all)
        self._inboxes: defaultdict[str, set[Inbox]] = defaultdict(set)
        self._feeds: tuple[Feed, ...] = ()
        self._lock = threading.Lock()
        self._count = 0
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self._pubsub: PubSub | None = None

    def submit(self, picture: Submission, seconds: float = 0, client: Client | None = None) -> Prediction:
        """Hands in a picture and waits for its end as `wait` does. Raises what Store.submit raises."""
        return run(self.hand_in(picture, seconds, ThreadInbox(client)))

    async def hand_in(self, picture: Submission, seconds: float, inbox: Inbox) -> Prediction:
        """`submit` for one who waits in their own way."""
        with self._seated(picture.id, inbox, seconds > 0) as seated:
            upload = self.uploads.send(picture, inbox, quiet=seated)
            if seated:
                return await self._ended(picture.id, inbox, seconds, upload)
        await inbox.get()
        return await self._accepted(upload, inbox)

    def wait(self, id: str, seconds: float, owner: str | None = None, client: Client | None = None) -> Prediction:
        """The prediction once it has ended, or as it stands after `seconds`, when the process stops or the client goes.

        Past the bound on waiting requests it answers at once: the client polls. Raises what Store.fetch raises, also
        where it is not the owner's.
        """
        return run(self.read(id, seconds, owner, ThreadInbox(client)))

    async def read(self, id: str, seconds: float, owner: str | None, inbox: Inbox) -> Prediction:
        """`wait` for one who waits in their own way."""
        with self._seated(id, inbox, seconds > 0) as seated:
            prediction = await self._look(id, owner, inbox)
            return prediction if prediction.state.terminal or not seated else await self._ended(id, inbox, seconds)

    async def _look(self, id: str, owner: str | None, inbox: Inbox) -> Prediction:
        """The prediction as it stands. Raises what Store.fetch raises."""
        own = inbox.another()
        look = self.looks.send(id, own)
        await own.get()
        if record := look.answer():
            return self._store.found(id, record, owner)
        return await inbox.call(self._store.fetch, id, owner)  # says why there is none

    async def _accepted(self, upload: Errand[Submission, Answer], inbox: Inbox) -> Prediction:
        """What became of an upload. Raises what Store.submit raises."""
        answer = upload.answer()
        if answer[0] == b"repeated":  # the first one under its key has to be looked for
            return await inbox.call(self._store.accepted, upload.asked, answer)
        return self._store.accepted(upload.asked, answer)

    async def _ended(
        self, id: str, inbox: Inbox, seconds: float, upload: Errand[Submission, Answer] | None = None
    ) -> Prediction:
        end, client, watches = time.monotonic() + seconds, inbox.client, False
        while True:
            left = end - time.monotonic()
            longest = LOOK_AGAIN_SECONDS if watches or not client else WATCH_SECONDS
            try:
                record = await inbox.get(min(max(left, SHORTEST_WAIT_SECONDS), longest))
            except TimeoutError:
                record = None
                if client and not watches and left > WATCH_SECONDS:
                    watches = True
                    client.watch(lambda: inbox.put(None))
                    continue
            if record:
                return Prediction.from_record(id, record)
            if upload:
                upload.quiet = False  # what was to be looked at now is looked at with the answer
                if not upload.done:  # there is nothing to look at before it is handed in
                    continue
                first, upload = await self._accepted(upload, inbox), None
                if first.id != id:  # repeated: the first one under the same key
                    return await self.read(first.id, end - time.monotonic(), None, inbox)
            prediction = await self._look(id, None, inbox)
            gone = client is not None and client.gone
            if prediction.state.terminal or left <= 0 or gone or self._closed.is_set():
                return prediction

    @contextmanager
    def _seated(self, id: str, inbox: Inbox, wanted: bool) -> Iterator[bool]:
        """Whether the inbox hears of this end: if that is wanted, and one more may wait."""
        with self._lock:
            free = wanted and self._count + inbox.threads <= self._limit
            if free:
                self._count += inbox.threads
                self._inboxes[id].add(inbox)
                self._start()
        if not free:
            yield False
            return
        try:
            yield True
        finally:
            if inbox.client:
                inbox.client.unwatch()
            with self._lock:
                self._count -= inbox.threads
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
        self.uploads.close()
        self.looks.close()
        if (pubsub := self._pubsub) is not None:
            with suppress(redis.RedisError):
                pubsub.unsubscribe()  # its answer wakes the thread
        if self._thread is not None:
            self._thread.join()

    def _listen(self) -> None:
        while not self._closed.is_set():
            try:
                with self._store.client.pubsub() as pubsub:
                    pubsub.subscribe(keys.EVENTS)
                    liveness, self._pubsub = Liveness(), pubsub
                    while not self._closed.is_set():
                        message = pubsub.get_message(timeout=LISTEN_SECONDS)
                        if message:
                            liveness.heard()
                        elif liveness.ping_is_due():
                            pubsub.ping()
                        self._hear(message)
            except Exception as error:  # whatever it is, those who wait must end and the next one must be heard
                self._pubsub = None
                log.warning("redis: %s, listening again in 0.5 s", error)
                self._tell_all_to_look()  # they find out for themselves, and answer 503
                self._closed.wait(0.5)

    def _hear(self, message: dict[str, Any] | None) -> None:
        if message and message["type"] == "subscribe":
            self._tell_all_to_look()  # something may have ended before we listened
        elif message and message["type"] == "message":
            ended = ends(message["data"])
            with self._lock:
                for record in ended:
                    for inbox in self._inboxes.get(record["id"], ()):
                        inbox.put(record)
            for feed in self._feeds:
                feed.heard(ended)

    def _tell_all_to_look(self) -> None:
        with self._lock:
            for inboxes in self._inboxes.values():
                for inbox in inboxes:
                    inbox.put(None)
        for feed in self._feeds:
            feed.missed()
