"""Detects a subscription whose connection is open but dead."""

from __future__ import annotations

import time
from typing import Any

import redis
from redis.client import PubSub

#: Seconds of silence after which a subscription is pinged, and the timeout of the answer.
PING_SECONDS, ANSWER_SECONDS = 2.0, 5.0


class Liveness:
    """Decides when to ping a subscription and when to give it up.

    redis-py sends no PING on a subscription by default, and with `health_check_interval` it does not check the answer:
    behind a tunnel or a proxy that has lost its other end, a subscriber would listen for ever.
    """

    def __init__(self) -> None:
        self.heard()

    def heard(self) -> None:
        """Call after every message, PONG included."""
        self._heard_at, self._pinged_at = time.monotonic(), float("inf")

    def ping_is_due(self) -> bool:
        """Return whether to send a PING now. Raises redis.TimeoutError if the last one was not answered in time."""
        now = time.monotonic()
        if now - self._pinged_at > ANSWER_SECONDS:
            raise redis.TimeoutError(f"the subscription does not answer: no PONG within {ANSWER_SECONDS:.0f} s")
        if now < self._pinged_at and now - self._heard_at >= PING_SECONDS:
            self._pinged_at = now
            return True
        return False


class LivePubSub(PubSub):
    """A subscription that reconnects when its connection is dead, for callers that only read it."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._liveness = Liveness()

    def get_message(self, ignore_subscribe_messages: bool = False, timeout: float | None = 0.0) -> Any:
        """As in redis-py, but returns after `PING_SECONDS` at the latest.

        Raises redis.TimeoutError if the connection is dead; the next call reconnects.
        """
        limit = PING_SECONDS if timeout is None else min(timeout, PING_SECONDS)
        message = super().get_message(ignore_subscribe_messages, limit)
        try:
            if message:
                self._liveness.heard()
            elif self._liveness.ping_is_due():
                self.ping()
        except redis.TimeoutError:
            self._liveness.heard()
            connection: Any = self.connection
            connection.disconnect()  # the next read connects and subscribes
            raise
        return message
