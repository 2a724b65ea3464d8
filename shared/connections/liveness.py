"""Tells a subscription that is quiet from one whose connection is open and dead."""

from __future__ import annotations

import time
from typing import Any

import redis
from redis.client import PubSub

#: Seconds of silence after which a subscription is pinged, and seconds that the answer may take.
PING_SECONDS, ANSWER_SECONDS = 2.0, 5.0


class Liveness:
    """When a subscription has to be pinged, and when it has to be given up.

    redis-py sends no PING on a subscription by itself, and where `health_check_interval` makes it, it does not look for
    the answer: behind a tunnel or a proxy that has lost the other side, a subscriber would listen for ever.
    """

    def __init__(self) -> None:
        self._heard_at = time.monotonic()
        self._pinged_at: float | None = None

    def heard(self) -> None:
        """Something was received, whatever it was."""
        self._heard_at, self._pinged_at = time.monotonic(), None

    def ping_is_due(self) -> bool:
        """Whether to send a PING now. Raises redis.TimeoutError where the last one was not answered in time."""
        now = time.monotonic()
        if self._pinged_at is None:
            if now - self._heard_at < PING_SECONDS:
                return False
            self._pinged_at = now
            return True
        if now - self._pinged_at > ANSWER_SECONDS:
            raise redis.TimeoutError(f"the subscription does not answer: no PONG within {ANSWER_SECONDS:.0f} s")
        return False


class LivePubSub(PubSub):
    """A subscription that connects and subscribes anew where its connection is dead, for those who only read it."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._liveness = Liveness()

    def get_message(self, ignore_subscribe_messages: bool = False, timeout: float | None = 0.0) -> Any:
        """As in redis-py, but returns after `PING_SECONDS` at the latest.

        Raises redis.TimeoutError where the connection is dead; the next call connects.
        """
        limit = PING_SECONDS if timeout is None else min(timeout, PING_SECONDS)
        message = super().get_message(ignore_subscribe_messages, limit)
        try:
            if message:
                self._liveness.heard()
            elif self._liveness.ping_is_due():
                self.ping()
        except redis.TimeoutError:
            self._liveness = Liveness()
            connection: Any = self.connection
            connection.disconnect()  # the next read connects and subscribes
            raise
        return message
