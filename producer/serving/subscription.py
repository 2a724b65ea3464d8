"""Listens for ended predictions on one pub/sub connection, and reports them on the event loop."""

from __future__ import annotations

import asyncio
import logging
import threading
from asyncio import AbstractEventLoop
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import redis

from producer.serving.line import Line
from shared import keys
from shared.connections.liveness import Liveness
from shared.record import ends

log = logging.getLogger("digitq.web")

#: Before the subscription is made again after an error.
RECONNECT_SECONDS = 0.5
#: Between two looks whether the connection is alive.
LOOK_SECONDS = 1.0


class Subscription:
    """Calls `ended` with the records of each message, and `missed` when some may have been missed, both on the loop.

    A thread makes the subscription and looks after it, because redis-py's asyncio client has no Sentinel failover like
    ours. The loop reads it.
    """

    def __init__(
        self, client: redis.Redis, ended: Callable[[list[dict[str, str]]], None], missed: Callable[[], None]
    ) -> None:
        self._client, self._ended, self._missed = client, ended, missed
        self._thread: threading.Thread | None = None
        self._liveness = Liveness()
        #: Wake the thread: the process ends, or the connection has failed.
        self._stopped, self._failed = threading.Event(), threading.Event()
        self._error: Exception | None = None

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
        """Listen no longer."""
        self._stopped.set()
        self._failed.set()

    def close(self) -> None:
        """End the thread."""
        self.stop()
        if self._thread is not None:
            self._thread.join()

    def _run(self, loop: AbstractEventLoop) -> None:
        while not self.stopped:
            try:
                self._subscribe(loop)
            except Exception as error:  # whatever it is, the waiting requests and the next message must be heard
                log.warning("redis: %s, listening again in %s s", error, RECONNECT_SECONDS)
                with suppress(RuntimeError):  # the loop has ended
                    loop.call_soon_threadsafe(self._missed)  # each request reads for itself, and answers 503
                self._stopped.wait(RECONNECT_SECONDS)

    def _subscribe(self, loop: AbstractEventLoop) -> None:
        self._error = None
        self._failed.clear()
        with self._client.pubsub(push_handler_func=_as_it_is) as pubsub:
            pubsub.subscribe(keys.EVENTS)
            self._liveness = Liveness()
            line = Line(pubsub.connection, loop, self._hear, self._lost)
            try:
                while not self.stopped:
                    self._failed.wait(LOOK_SECONDS)
                    if self._error:
                        raise self._error
                    if self._liveness.ping_is_due():
                        pubsub.ping()
            finally:
                line.detach_from_thread()

    def _lost(self, error: Exception) -> None:
        self._error = error
        self._failed.set()

    def _hear(self, reply: Any) -> bool:
        """Take what the server sends: [kind, channel, data], or the answer to a PING."""
        if isinstance(reply, Exception):
            raise reply
        self._liveness.heard()
        kind, *_, data = reply if isinstance(reply, list) else (b"pong", b"")
        if kind == b"subscribe":
            self._missed()  # something may have ended before
        elif kind == b"message":
            self._ended(ends(data))
        return True


def _as_it_is(message: Any) -> Any:
    """Return a pushed message. redis-py's own handler makes a text of each, for its log: 2 us an upload."""
    return message
