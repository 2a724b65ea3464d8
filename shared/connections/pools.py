"""A connection pool that drops what is idle when one of its connections turns out to be dead."""

from __future__ import annotations

from typing import Any

import redis


class Pool(redis.ConnectionPool):
    """Drops what is idle when one of its connections comes back closed.

    What takes a connection down silently, such as a proxy that has lost the other side, takes its neighbours too.
    Without this each of them would be found out by a call of its own that waits for an answer until it times out.
    """

    def release(self, connection: Any) -> None:
        """As in redis-py; a connection that comes back closed closes all that are idle."""
        if not connection.is_connected:
            self.disconnect(inuse_connections=False)
        super().release(connection)
