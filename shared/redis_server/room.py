"""Keeps a Redis with `maxmemory` from filling up: limits intake and deletes ended predictions early.

A prediction needs more memory once it has ended, and then is kept for some seconds in any case. So intake stops short
of the limit by what all open predictions will still need; from then on as much is accepted as is deleted.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from shared.errors import MemoryFull, RedisUnavailable

log = logging.getLogger("digitq.redis")

#: Shares of `maxmemory` at which deletion begins and stops; open predictions count with what they will need.
FULL_SHARE, ROOM_SHARE = 0.90, 0.85
#: Share of `maxmemory` that intake may fill. The rest is for workers, webhooks and RQ.
INTAKE_SHARE = 0.95
#: Bytes of an accepted prediction without its picture, and how many more it needs once it has ended (measured: 1.2 and
#: 2.3 kB with Valkey 9.1 and `stream-node-max-bytes 512`, more with older servers).
ACCEPTED_BYTES, GROWTH_BYTES = 2048, 3072
#: Seconds for which an ended prediction is kept: while there is room for new ones, and in any case.
FRESH_SECONDS, URGENT_SECONDS = 10.0, 2.0
#: Predictions that one step deletes, and seconds after which a call takes no further step.
AT_ONCE, CALL_SECONDS = 64, 0.25
#: Seconds for which a webhook that was not delivered keeps its prediction.
UNCALLED_SECONDS = 30.0
#: Seconds that a request waits for room before it is refused, and between two attempts.
WAIT_SECONDS, PAUSE_SECONDS = 1.0, 0.05
#: Seconds between two looks at the memory: with less than a quarter free, with more, and without a limit.
LOOK_SECONDS, RARE_LOOK_SECONDS, UNLIMITED_LOOK_SECONDS = 0.05, 0.5, 2.0
#: Seconds between two log lines about evictions.
TELL_SECONDS = 10.0
#: A request for more than this share of the memory is left to Redis to refuse: it must not evict everything else.
LARGE_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Memory:
    """Redis's report: bytes in use, `maxmemory` (0: no limit), and the number of open predictions."""

    used: int
    limit: int
    open: int

    @property
    def reserved(self) -> float:
        """Share of the limit that open predictions will need when they end."""
        return self.open * GROWTH_BYTES / self.limit if self.limit else 0.0

    @property
    def free(self) -> float:
        """Bytes that intake may still use."""
        return (INTAKE_SHARE - self.reserved) * self.limit - self.used


class Room:
    """Limits the intake of one process and evicts for it.

    `look` asks Redis for its Memory; `step` calls evict.lua with its arguments and returns its answer: the number of
    deleted records, and 1 if there may be more to delete, else 0.
    """

    def __init__(self, look: Callable[[], Memory], step: Callable[..., Any], ttl_seconds: int) -> None:
        self._look, self._step, self._ttl_seconds = look, step, ttl_seconds
        self._memory: Memory | None = None
        self._free, self._look_at = 0.0, float("-inf")
        self._untold, self._tell_at = 0, float("-inf")
        self._looked = False
        #: The first is never held during a call to Redis.
        self._lock, self._looking, self._evicting = threading.Lock(), threading.Lock(), threading.Lock()

    def reserve(self, size: int, pictures: int = 0) -> None:
        """Wait until `size` bytes and `pictures` records fit, deleting ended predictions, and count them as used.

        Raises MemoryFull if they do not fit within `WAIT_SECONDS`.
        """
        size += pictures * (ACCEPTED_BYTES + GROWTH_BYTES)
        end = time.monotonic() + WAIT_SECONDS
        while not self._take(size):
            if time.monotonic() > end:
                raise MemoryFull(retry_after_seconds=1)
            if not self._evict_for(size):
                time.sleep(PAUSE_SECONDS)

    def reserve_at_once(self, size: int, pictures: int = 0) -> bool:
        """Do what `reserve` does, where that needs no call to Redis; else return False."""
        return time.monotonic() < self._look_at and self._take(size + pictures * (ACCEPTED_BYTES + GROWTH_BYTES))

    def _take(self, size: int) -> bool:
        self._look_if_due()
        with self._lock:
            memory = self._memory
            if memory is None or not memory.limit or size > LARGE_SHARE * memory.limit:
                return True
            if self._free < size:
                self._look_at = min(self._look_at, time.monotonic() + LOOK_SECONDS)
                return False
            self._free -= size
            return True

    def _look_if_due(self) -> None:
        """Asks Redis if the last answer is too old. One thread asks; others use the last answer, if there is one."""
        if time.monotonic() < self._look_at or not self._looking.acquire(blocking=not self._looked):
            return
        try:
            if time.monotonic() < self._look_at:
                return
            memory = None
            with suppress(RedisUnavailable):  # the caller's own call will raise it too
                memory = self._look()
            with self._lock:
                self._memory, self._looked, self._look_at = memory, True, time.monotonic() + _pause(memory)
                self._free = memory.free if memory else 0.0
        finally:
            self._looking.release()

    def _evict_for(self, size: int) -> int:
        """Delete ended predictions until `size` bytes fit, in one thread at a time. Returns how many were deleted."""
        memory = self._memory
        if memory is None or not self._evicting.acquire(blocking=False):
            return 0
        try:
            # Further than needed: Redis's own figures differ by some kB from one call to the next.
            share = INTAKE_SHARE - (FULL_SHARE - ROOM_SHARE) - memory.reserved - size / memory.limit
            deleted = self._evict(share, share, URGENT_SECONDS)
        finally:
            self._evicting.release()
        if deleted:
            with self._lock:
                self._look_at = float("-inf")
        return deleted

    def make(self, refused_bytes: int | None = None) -> int:
        """Delete ended predictions while memory is nearly full. Returns how many predictions and batches were deleted.

        `refused_bytes`: makes room for a write of this size that Redis has refused. Raises RedisUnavailable.
        """
        memory = self._look()
        if not memory.limit:
            return 0
        if refused_bytes is None:
            return self._evict(FULL_SHARE - memory.reserved, ROOM_SHARE - memory.reserved, FRESH_SECONDS)
        more = 2 * refused_bytes  # Redis holds it in its input buffer, too
        return self._evict(ROOM_SHARE, ROOM_SHARE, URGENT_SECONDS, more)

    def _evict(self, begin: float, stop: float, kept_seconds: float, more: int = 0) -> int:
        args = {"begin": max(begin, 0.01), "stop": max(stop, 0.01), "fresh": kept_seconds, "ttl": self._ttl_seconds,
                "most": AT_ONCE, "uncalled": UNCALLED_SECONDS, "more": more, "batch_fresh": FRESH_SECONDS}  # fmt: skip
        deleted, left, end = 0, True, time.monotonic() + CALL_SECONDS
        while left and time.monotonic() < end:
            now, left = self._step(**args)
            deleted += now
        self._tell(deleted)
        return deleted

    def _tell(self, deleted: int) -> None:
        """Log how many were deleted, at once and then every `TELL_SECONDS`."""
        self._untold += deleted
        if self._untold and time.monotonic() >= self._tell_at:
            log.warning("redis: memory is nearly full, %d ended predictions deleted before their time", self._untold)
            self._untold, self._tell_at = 0, time.monotonic() + TELL_SECONDS


def _pause(memory: Memory | None) -> float:
    """Return the seconds until the next look."""
    if memory is None:
        return RARE_LOOK_SECONDS
    if not memory.limit:
        return UNLIMITED_LOOK_SECONDS
    return LOOK_SECONDS if memory.free < LARGE_SHARE * memory.limit else RARE_LOOK_SECONDS
