"""Connection pools: one that drops dead neighbours, and one that follows the primary of a Sentinel service."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any
from weakref import finalize

import redis

from shared.connections.redis_failures import FailoverUnderWay
from shared.connections.sentinel import Follower

#: Bytes sent at once, each time with the timeout of the connection.
PIECE_BYTES = 64 * 1024


def pieces(command: Iterable[bytes]) -> Iterator[bytes | memoryview]:
    """Yield the parts of a packed command, long ones cut."""
    for part in command:
        if len(part) <= PIECE_BYTES:
            yield part
        else:
            view = memoryview(part)
            yield from (view[at : at + PIECE_BYTES] for at in range(0, len(view), PIECE_BYTES))


class _Patient:
    """Makes a connection time out when it could send nothing for that long.

    redis-py's timeout is for all bytes of an argument: a large picture over a slow link would never arrive.
    """

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """As in redis-py."""
        super().send_packed_command(pieces(command), check_health)  # type: ignore[misc]


@cache
def patient(kind: type) -> type:
    """Return a patient connection of that kind: TCP, TLS or a Unix socket."""
    return type(kind.__name__, (_Patient, kind), {})


class Pool(redis.ConnectionPool):
    """Makes patient connections, and drops all idle ones when one is released closed.

    A silent failure of one connection, such as a proxy that has lost its other end, affects its neighbours too. Without
    this, a call would wait for the timeout on each of them.
    """

    def __init__(self, connection_class: type = redis.Connection, **options: Any) -> None:
        super().__init__(connection_class=patient(connection_class), **options)

    #: How often the idle connections were closed: one that was made before, and is in use for long, may be as useless.
    closings = 0

    def release(self, connection: Any) -> None:
        """As in redis-py, but a closed connection closes the idle ones."""
        if not connection.is_connected:
            self.disconnect(inuse_connections=False)
        super().release(connection)

    def disconnect(self, inuse_connections: bool = True) -> None:
        """As in redis-py."""
        self.closings += 1
        super().disconnect(inuse_connections)

    def discard(self, connection: Any) -> None:
        """Release a connection that is not to be used again, without consequences for others."""
        connection.disconnect()
        super().release(connection)


class FollowedConnection(redis.Connection):
    """A connection to the current primary, which a Follower names."""

    def __init__(self, *, follower: Follower, **options: Any) -> None:
        super().__init__(**options)  # type: ignore[no-untyped-call]
        self._follower = follower

    def connect_check_health(self, check_health: bool = True, retry_socket_connect: bool = True) -> None:
        """Connect to the current primary; redis-py calls this for every connection attempt, retries included.

        Raises redis-py's ConnectionError if there is no primary, or if it was replaced meanwhile.
        """
        if getattr(self, "_sock", None):
            return
        self.host, self.port = self._follower.primary()
        super().connect_check_health(check_health, retry_socket_connect)
        if not self._follower.admit(self):
            self.disconnect()  # type: ignore[no-untyped-call]
            raise FailoverUnderWay("the primary was just replaced")

    def read_response(self, *args: Any, **options: Any) -> Any:
        """Disconnects from a server that has become a replica, so that a retry finds the primary."""
        try:
            return super().read_response(*args, **options)
        except redis.exceptions.ReadOnlyError as error:
            self.disconnect()  # type: ignore[no-untyped-call]
            raise FailoverUnderWay("the primary has become a replica") from error


class FollowedPool(Pool):
    """Connections to the primary of a Sentinel service."""

    def __init__(self, follower: Follower, **options: Any) -> None:
        self.follower = follower
        super().__init__(connection_class=FollowedConnection, follower=follower, **options)
        finalize(self, follower.stop)

    def disconnect(self, inuse_connections: bool = True) -> None:
        """As in redis-py; stops the follower's threads when all connections are closed."""
        super().disconnect(inuse_connections)
        if inuse_connections:
            self.follower.stop()


def follower_of(client: redis.Redis) -> Follower | None:
    """Return the Follower of a client that knows sentinels, None for others."""
    return getattr(client.connection_pool, "follower", None)
