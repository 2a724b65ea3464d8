"""A connection to Redis whose replies the event loop reads: no thread has to wake up for them.

redis-py connects, which blocks, so a thread does that; redis-py packs and parses, too. Only the waiting is the loop's.
"""

from __future__ import annotations

import threading
from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import redis

from shared.connections.pools import Pool
from shared.connections.script_calls import ScriptCall, packed

#: Bytes of a call that is sent from the loop: the kernel takes them at once, so that the loop does not wait for Redis.
SENT_AT_ONCE = 64 * 1024


class Line:
    """Has the loop read a connection, until it fails. Made on a thread, of a connected connection.

    `heard` takes each reply, a redis.ResponseError included, and tells whether more may have come with it; `lost` takes
    the error that ended it. Both are called on the loop.
    """

    def __init__(
        self, connection: Any, loop: AbstractEventLoop, heard: Callable[[Any], bool], lost: Callable[[Exception], None]
    ) -> None:
        self.connection, self.loop, self._heard, self._lost = connection, loop, heard, lost
        self._descriptor: int = connection._sock.fileno()
        self._open = True
        self._detached = threading.Event()
        loop.call_soon_threadsafe(self._attach)

    def _attach(self) -> None:
        if self._open:
            self.loop.add_reader(self._descriptor, self._read)

    def _read(self) -> None:
        try:
            while self._open and self._heard(self._reply()):
                pass
        except redis.TimeoutError:  # nothing more has arrived
            pass
        except Exception as error:  # of any kind: the waiting callers must be told
            self.detach()
            self._lost(error)

    def _reply(self) -> Any:
        try:
            return self.connection.read_response(timeout=0, disconnect_on_error=False, push_request=True)
        except redis.ResponseError as error:
            return error

    def detach(self) -> None:
        """Read no more, so that the connection can be closed. Called on the loop."""
        if self._open:
            self._open = False
            self.loop.remove_reader(self._descriptor)
        self._detached.set()

    def detach_from_thread(self) -> None:
        """Do the same from another thread; the loop may have ended."""
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self.detach)
            while not self._detached.wait(0.05) and self.loop.is_running():
                pass


class LoopCalls:
    """Sends script calls from the loop, one at a time, on a connection of its own."""

    def __init__(self, client: redis.Redis) -> None:
        self._pool: Any = client.connection_pool
        self._line: Line | None = None
        self._closings = 0
        self._answered: Callable[[Any], None] | None = None
        self._timer: TimerHandle | None = None

    @property
    def ready(self) -> bool:
        """True while there is a connection that may be used. Called on the loop, while no call is under way."""
        if self._line is not None and self._pool.closings != self._closings:
            self._discard()
        return self._line is not None

    def connect(self, loop: AbstractEventLoop) -> None:
        """Take a connection, if there is none and it can be had. Called on a thread, after a call that succeeded."""
        if self._line is not None or not isinstance(self._pool, Pool):
            return
        with suppress(redis.RedisError, OSError):  # the next call will tell
            connection: Any = self._pool.get_connection()
            self._closings = self._pool.closings
            self._line = Line(connection, loop, self._heard, self._lost)

    def _discard(self) -> None:
        if self._line is not None:
            self._line.detach()
            self._pool.discard(self._line.connection)
            self._line = None

    def send(self, call: ScriptCall, answered: Callable[[Any], None]) -> None:
        """Send a call. `answered` gets the answer, or redis-py's error; later, and on the loop."""
        assert self._line is not None
        line, loop = self._line, self._line.loop
        self._answered = answered
        seconds = line.connection.socket_timeout
        if seconds is not None:
            self._timer = loop.call_later(seconds, self._late, line)
        try:
            line.connection.send_packed_command(packed(line.connection, [call]))
        except Exception as error:  # the same
            line.detach()
            loop.call_soon(self._lost, error)

    def _late(self, line: Line) -> None:
        line.detach()
        self._lost(redis.TimeoutError("Timeout reading from socket"))

    def _heard(self, reply: Any) -> bool:
        if isinstance(reply, Exception):  # such as a refused write: it may lead to a server that has become a replica
            self._discard()
        if self._answered is not None:
            self._end(reply)
        return False

    def _lost(self, error: Exception) -> None:
        if self._line is not None:
            connection, self._line = self._line.connection, None
            connection.disconnect()
            self._pool.release(connection)
        if self._answered is not None:
            self._end(error)

    def _end(self, reply: Any) -> None:
        assert self._answered is not None
        answered, self._answered = self._answered, None
        if self._timer is not None:
            self._timer.cancel()
        answered(reply)

    def close(self) -> None:
        """Give the connection back. Called after the loop has ended."""
        if self._line is not None:
            self._pool.release(self._line.connection)
            self._line = None
