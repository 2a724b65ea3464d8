"""Connection pools that drop what is idle when one of their connections turns out to be dead."""

from __future__ import annotations

from typing import Any

import redis
from redis.sentinel import SentinelConnectionPool


class _DropsIdle:
    """What takes a connection down silently, such as a proxy that has lost the other side, takes its neighbours too.

    Without this each of them would be found out by a call of its own that waits for an answer until it times out.
    """

    def release(self, connection: Any) -> None:
        """As in redis-py; a connection that comes back closed closes all that are idle."""
        if not connection.is_connected:
            self.disconnect(inuse_connections=False)  # type: ignore[attr-defined]
        super().release(connection)  # type: ignore[misc]


class Pool(_DropsIdle, redis.ConnectionPool):
    """Of connections to one server."""


class SentinelPool(_DropsIdle, SentinelConnectionPool):
    """Of connections to the primary that the sentinels name."""
