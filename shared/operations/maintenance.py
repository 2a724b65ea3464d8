"""Maintenance by one worker at a time: recovers jobs, announces ends that RQ alone has written, trims registries."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from shared import keys
from shared.operations.script_runner import ScriptRunner

#: Open records and batches checked in one step of maintenance.
LOOKED_AT_ONCE = 100
#: Entries of an RQ registry trimmed in one step, which takes Redis milliseconds; and seconds for all steps.
TRIMMED_AT_ONCE, TRIM_SECONDS = 200, 1.0
#: Seconds after which a worker's recovery turn expires.
TURN_SECONDS = 3


class Maintenance(ScriptRunner):
    """Steps of maintenance, each bounded."""

    def recovery_turn(self, worker: str) -> bool:
        """Return True for one worker at a time, to recover expired leases. A turn expires after three seconds."""
        return bool(self.tell("turn", step="take", worker=worker, seconds=TURN_SECONDS))

    def end_recovery_turn(self, worker: str) -> None:
        """End the recovery turn, if it is still this worker's."""
        self.tell("turn", step="end", worker=worker)

    def sort_out_leases(self, queues: Sequence[str]) -> int:
        """Drop expired leases without a running job. Returns the number of jobs returned to their queue."""
        return int(self.tell("leases", queues=queues))

    def sweep(self, age_seconds: float) -> tuple[int, int]:
        """Check open pictures and batches that were not checked for `age` seconds, a bounded number.

        Returns the number checked, and the number that have ended or were requeued.
        """
        return self._look_after(most=LOOKED_AT_ONCE, age=age_seconds)

    def look_after(self, ids: Sequence[str]) -> None:
        """Check these ids: announce the end of those that RQ has ended."""
        self._look_after(ids=ids)

    def _look_after(self, **which: Any) -> tuple[int, int]:
        looked, changed = self.tell("sweep", ttl=self.settings.result_ttl_seconds, queues=keys.QUEUES, **which)
        return int(looked), int(changed)

    def trim_registries(self, queues: Sequence[str]) -> int:
        """Remove entries older than the TTL from RQ's registries of cancelled and deferred jobs.

        Returns the number removed. A job without a TTL, which will never run, is deleted with its entry.
        """
        gone, end = 0, time.monotonic() + TRIM_SECONDS
        while True:
            left = int(
                self.tell("registries", ttl=self.settings.result_ttl_seconds, most=TRIMMED_AT_ONCE, queues=queues)
            )
            gone += left
            if left < TRIMMED_AT_ONCE or time.monotonic() > end:
                return gone
