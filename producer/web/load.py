"""Reads how busy the queue and the workers are, and computes percentiles of how long predictions took."""

from __future__ import annotations

import math
import time
from collections import deque
from datetime import datetime
from typing import Any

from shared.errors import DigitqError
from shared.store import Store

#: Seconds over which percentiles are taken.
WINDOW_SECONDS = 10
#: Totals that are kept for the percentiles, the newest.
SAMPLES = 2048


class Gauge:
    """Collects ended records for the percentiles, and reads the rest from Redis."""

    def __init__(self, store: Store) -> None:
        self._store = store
        #: Ended records, each with the time when its message came.
        self._records: deque[tuple[float, dict[str, str]]] = deque(maxlen=SAMPLES)

    def count(self, ended: list[dict[str, str]]) -> None:
        """Add the records of one message. Called on the event loop: must be quick."""
        now = time.monotonic()
        self._records.extend((now, record) for record in ended)

    def read(self) -> dict[str, Any]:
        """The status as it is sent; `{"redis": false, "reason": …}` while Redis does not answer."""
        try:
            status = status_of(self._store)
        except DigitqError as error:
            return {"redis": False, "reason": str(error)}
        since = time.monotonic() - WINDOW_SECONDS
        totals = sorted(
            _total_ms(record) for at, record in list(self._records) if at >= since and record.get("created_at")
        )
        return {**status, "p50_ms": percentile(totals, 0.5), "p95_ms": percentile(totals, 0.95)}


def status_of(store: Store) -> dict[str, Any]:
    """Return the load as the API shows it. Raises RedisUnavailable."""
    return store.load().to_json(store.settings.latency_goal_ms / 1000)


def percentile(ordered: list[float], share: float) -> float | None:
    """The value that `share` of the ordered ones do not exceed (nearest rank); None of an empty list."""
    return round(ordered[math.ceil(share * len(ordered)) - 1], 1) if ordered else None


def _total_ms(record: dict[str, str]) -> float:
    submitted, finished = (datetime.fromisoformat(record[at]) for at in ("created_at", "ended_at"))
    return (finished - submitted).total_seconds() * 1000
