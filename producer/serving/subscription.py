"""Listens for ended predictions, on a thread with one pub/sub connection, and reports them on the event loop."""

from __future__ import annotations

import asyncio
import logging
import threading
from asyncio import AbstractEventLoop
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import redis
from redis.client import PubSub

from shared import keys
from shared.connections.liveness import Liveness
from shared.record import ends

log = logging.getLogger("digitq.web")

#: Before the subscription is made again after an error.
RECONNECT_SECONDS = 0.5


class Subscription:
    """Calls `ended` with the records of each message, and `missed` when some may have been missed, both on the loop.

    A thread, because redis-py's asyncio client has no Sentinel failover like ours.
    """

    def __init__(
        self, client: redis.Redis, ended: Callable[[list[dict[str, str]]], None], missed: Callable[[], None]
    ) -> None:
        self._client, self._ended, self._missed = client, ended, missed
        self._thread: threading.Thread | None = None
        self._pubsub: PubSub | None = None
        self._stopped = threading.Event()

    @property
    def stopped(self) -> bool:
        """True once it is to end."""
        return self._stopped.is_set()

    def start(self) -> None:
        """Start on first use: the server starts its processes after the application was made. Called on the loop."""
        if self._thread is None:
            loop = asyncio.get_running_loop()
            self._thread = threading.Thread(target=self._run, args=(loop,), name="listener", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Listen no longer than until the next message."""
        self._stopped.set()

    def close(self) -> None:
        """End the thread."""
        self._stopped.set()
        if (pubsub := self._pubsub) is not None:
            with suppress(redis.RedisError):
                pubsub.unsubscribe()  # its answer wakes the thread
        if self._thread is not None:
            self._thread.join()

    def _run(self, loop: AbstractEventLoop) -> None:
        while not self.stopped:
            try:
                self._subscribe(loop)
            except Exception as error:  # whatever it is, the waiting requests and the next message must be heard
                log.warning("redis: %s, listening again in %s s", error, RECONNECT_SECONDS)
                _call(loop, self._missed)  # each request reads for itself, and answers 503
                self._stopped.wait(RECONNECT_SECONDS)

    def _subscribe(self, loop: AbstractEventLoop) -> None:
        with self._client.pubsub() as pubsub:
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


def _call(loop: AbstractEventLoop, function: Any, *args: Any) -> None:
    """Call a function on the loop, from another thread; the loop may have ended."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(function, *args)
