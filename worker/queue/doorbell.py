"""Waiting for work without taking it, and without polling."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Sequence
from typing import Any

import redis

from shared import keys


class Doorbell:
    """Rings when one of the queues has something in it.

    `BLMOVE q q LEFT LEFT` blocks until the list has an element and moves that element onto its own place: it wakes
    every waiter and changes nothing, so a crash here loses nothing. RQ's BLPOP on several queues pops before it
    registers, and a crash in between loses the job (rq#1716). One blocking connection per queue, all watched at once.
    """

    #: Seconds after which Redis ends a wait by itself: often, since its answer also shows that the connection lives.
    SERVER_TIMEOUT = 5
    #: Seconds by which that answer may be late; a connection without it is open and dead.
    LATE_SECONDS = 3.0
    #: Seconds to wait instead where Redis's memory is full: it refuses BLMOVE then, as a command that may write.
    POLL_SECONDS = 0.05

    def __init__(self, client: redis.Redis, queues: Sequence[str]) -> None:
        self._pool = client.connection_pool
        self._queues = queues
        self._waiting: dict[str, Any] = {}
        self._asked_at: dict[str, float] = {}
        self._listen, self._ring = socket.socketpair()
        self._listen.setblocking(False)
        self._ring.setblocking(False)

    def ring(self) -> None:
        """Ends the current or next wait. Safe in a signal handler."""
        with contextlib.suppress(OSError):
            self._ring.send(b"\0")

    def wait(self, seconds: float) -> None:
        """Returns when there may be work, when rung, or after so many seconds. Raises redis-py's connection errors."""
        try:
            for queue in self._queues:
                if queue not in self._waiting:
                    self._waiting[queue] = self._ask(queue)
            # The one private name of redis-py that we use: it has no way to wait for several connections.
            sockets = {connection._sock: queue for queue, connection in self._waiting.items()}
            for ready in select.select([*sockets, self._listen], [], [], seconds)[0]:
                if ready is self._listen:
                    self._listen.recv(64)
                else:
                    self._answer(sockets[ready])
            self._check_late()
        except (redis.RedisError, OSError, ValueError):
            self.hang_up()
            raise

    def _check_late(self) -> None:
        """Raises redis.TimeoutError where Redis should have ended a wait and has not."""
        late = time.monotonic() - self.SERVER_TIMEOUT - self.LATE_SECONDS
        for queue in self._waiting:
            if self._asked_at[queue] < late:
                raise redis.TimeoutError(f"no answer to BLMOVE of {queue} within {self.SERVER_TIMEOUT} s")

    def _ask(self, queue: str) -> Any:
        connection = self._pool.get_connection()
        self._asked_at[queue] = time.monotonic()
        key = keys.queue(queue)
        connection.send_command("BLMOVE", key, key, "LEFT", "LEFT", self.SERVER_TIMEOUT)
        return connection

    def _answer(self, queue: str) -> None:
        connection = self._waiting.pop(queue)
        try:
            connection.read_response()
        except redis.OutOfMemoryError:
            time.sleep(self.POLL_SECONDS)
        except (redis.RedisError, OSError):
            connection.disconnect()
            raise
        finally:
            self._pool.release(connection)

    def hang_up(self) -> None:
        """Drops the connections; the next wait starts afresh."""
        for connection in self._waiting.values():
            connection.disconnect()
            self._pool.release(connection)
        self._waiting.clear()

    def close(self) -> None:
        """Ends the bell for good."""
        self.hang_up()
        self._listen.close()
        self._ring.close()
