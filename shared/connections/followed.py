"""Connections to the primary of a Sentinel service, wherever that is."""

from __future__ import annotations

from typing import Any
from weakref import finalize

import redis

from shared.connections.pools import Pool
from shared.connections.sentinel import FailoverUnderWay, Follower


class FollowedConnection(redis.Connection):
    """A connection to the primary, as a Follower says where that is."""

    def __init__(self, *, follower: Follower, **options: Any) -> None:
        super().__init__(**options)  # type: ignore[no-untyped-call]
        self._follower = follower

    def connect_check_health(self, check_health: bool = True, retry_socket_connect: bool = True) -> None:
        """Whatever makes redis-py connect comes here, also a repetition on a connection that was lost.

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
        """A server that refuses writes as a replica leads no more: the next try finds who does."""
        try:
            return super().read_response(*args, **options)
        except redis.exceptions.ReadOnlyError as error:
            self.disconnect()  # type: ignore[no-untyped-call]
            raise FailoverUnderWay("the primary has become a replica") from error


class FollowedPool(Pool):
    """Connections to the primary of a service."""

    def __init__(self, follower: Follower, **options: Any) -> None:
        self.follower = follower
        super().__init__(connection_class=FollowedConnection, follower=follower, **options)
        finalize(self, follower.stop)

    def disconnect(self, inuse_connections: bool = True) -> None:
        """With all connections the threads end as well."""
        super().disconnect(inuse_connections)
        if inuse_connections:
            self.follower.stop()
