"""Blocks an idle worker until a queue has a job, without taking the job and without polling."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Sequence
from typing import Any

import redis

from shared import keys


class Wakeup:
    """Waits for jobs in any of several queues, with one blocked Redis connection per queue.

    `BLMOVE q q LEFT LEFT` blocks until the list has an element and moves that element to where it was: it wakes all
    waiting workers and changes nothing, so a crash loses no job. RQ's BLPOP removes the job first (rq#1716).
    """

    #: Seconds after which Redis ends a wait: its answer also shows that the connection is alive.
    SERVER_TIMEOUT = 5
    #: Seconds by which that answer may be late before the connection counts as dead.
    LATE_SECONDS = 3.0
    #: Seconds between two looks while Redis's memory is full: it then refuses BLMOVE, which may write.
    POLL_SECONDS = 0.05

    def __init__(self, client: redis.Redis, queues: Sequence[str]) -> None:
        self._pool = client.connection_pool
        self._queues = queues
        #: The connection of each queue, kept from wait to wait, and when it was asked last if it has not answered.
        self._connections: dict[str, Any] = {}
        self._asked_at: dict[str, float] = {}
        self._receiver, self._sender = socket.socketpair()
        self._receiver.setblocking(False)
        self._sender.setblocking(False)

    def wake(self) -> None:
        """End the current or next wait. Safe in a signal handler."""
        with contextlib.suppress(OSError):
            self._sender.send(b"\0")

    def wait(self, seconds: float) -> None:
        """Return when there may be a job, after `wake`, or after `seconds`. Raises redis-py's connection errors."""
        try:
            for queue in self._queues:
                if queue not in self._asked_at:
                    self._ask(queue)
            # `_sock` is private in redis-py, which cannot wait for several connections.
            sockets = {connection._sock: queue for queue, connection in self._connections.items()}
            for ready in select.select([*sockets, self._receiver], [], [], seconds)[0]:
                if ready is self._receiver:
                    self._receiver.recv(64)
                else:
                    self._read_answer(sockets[ready])
            self._check_late()
        except (redis.RedisError, OSError, ValueError):
            self.disconnect()
            raise

    def _ask(self, queue: str) -> None:
        # Noted before it is used, so that `disconnect` gives it back to the pool after an error.
        connection = self._connections.get(queue) or self._connections.setdefault(queue, self._pool.get_connection())
        self._asked_at[queue] = time.monotonic()
        key = keys.queue(queue)
        connection.send_command("BLMOVE", key, key, "LEFT", "LEFT", self.SERVER_TIMEOUT)

    def _read_answer(self, queue: str) -> None:
        try:
            self._connections[queue].read_response()
        except redis.OutOfMemoryError:
            time.sleep(self.POLL_SECONDS)
        del self._asked_at[queue]

    def _check_late(self) -> None:
        late = time.monotonic() - self.SERVER_TIMEOUT - self.LATE_SECONDS
        for queue, asked_at in self._asked_at.items():
            if asked_at < late:
                raise redis.TimeoutError(f"no answer to BLMOVE of {queue} within {self.SERVER_TIMEOUT} s")

    def disconnect(self) -> None:
        """Drop the blocked connections; the next wait opens new ones."""
        for connection in self._connections.values():
            connection.disconnect()
            self._pool.release(connection)
        self._connections.clear()
        self._asked_at.clear()

    def close(self) -> None:
        """Drop the connections and close the sockets."""
        self.disconnect()
        self._receiver.close()
        self._sender.close()
