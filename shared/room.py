"""Room in a Redis whose memory is nearly full: what has ended is deleted before its time, the oldest first."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

log = logging.getLogger("digitq.redis")

#: Shares of Redis's memory at which to begin, and down to which.
FULL_SHARE, ROOM_SHARE = 0.90, 0.85
#: Seconds for which an ended prediction is kept whatever the memory.
FRESH_SECONDS = 10.0
#: Predictions that one step deletes, and seconds that a call may go on with such steps.
AT_ONCE, CALL_SECONDS = 64, 0.25
#: Seconds for which a callback that has not been made keeps its prediction.
UNCALLED_SECONDS = 30.0


def evict(step: Callable[[Sequence[Any]], Any], ttl_seconds: int, refused_bytes: int | None = None) -> int:
    """Deletes step by step until there is room. Returns how many predictions and batches were deleted.

    `step` calls evict.lua with its arguments. With `refused_bytes` there is to be room for so many more, which Redis
    has refused, unless they are a quarter of its memory. Does nothing where there is room, or no limit of memory.
    """
    begin = FULL_SHARE if refused_bytes is None else ROOM_SHARE
    more = 2 * (refused_bytes or 0)  # Redis reads it, and then keeps it
    args = [begin, ROOM_SHARE, FRESH_SECONDS, ttl_seconds, AT_ONCE, UNCALLED_SECONDS, more]
    deleted, left, end = 0, True, time.monotonic() + CALL_SECONDS
    while left and time.monotonic() < end:
        now, left = step(args)
        deleted += now
    if deleted:
        log.warning("redis: memory is nearly full, %d ended predictions deleted before their time", deleted)
    return deleted
