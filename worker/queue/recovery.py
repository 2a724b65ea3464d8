"""Recovers jobs of workers that died, and does the maintenance that one worker does for all."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import suppress

from shared.batches import Batches
from shared.chunk_record import batch_of
from shared.errors import Expired, Lost, NotFound, RedisUnavailable
from shared.store import Store
from worker.queue.rq_compat import RqWorker
from worker.telemetry import metrics
from worker.telemetry.job_logs import job_fields

log = logging.getLogger("digitq.worker")

#: Seconds between two runs.
RECOVERY_SECONDS = 1.0
#: Seconds after which an open record is checked again, and steps of `Store.sweep` in one run.
SWEEP_AFTER_SECONDS, SWEEPS = 30.0, 5


class Recovery:
    """Runs about once a second between two batches; of all workers, one at a time recovers."""

    def __init__(self, rq: RqWorker, store: Store, batches: Batches, queues: Sequence[str]) -> None:
        self._rq, self._store, self._batches, self._queues = rq, store, batches, queues
        #: `time.monotonic` of the last run.
        self.last_run = float("-inf")

    @property
    def is_due(self) -> bool:
        """Tell whether the last run is long enough ago."""
        return time.monotonic() - self.last_run >= RECOVERY_SECONDS

    def run_if_due(self, burst: bool) -> bool:
        """Check the server, wait while RQ is suspended (not in burst mode), recover and maintain.

        Returns False, and does nothing, if it is not due.
        """
        if not self.is_due:
            return False
        self.last_run = time.monotonic()
        self._store.check_server()
        if not burst:
            self._rq.wait_while_suspended()
        # RQ's recovery does not lock: two at once could requeue a job that a third worker has claimed again.
        if self._store.recovery_turn(self._rq.name):
            try:
                self._run()
            finally:
                with suppress(RedisUnavailable):
                    self._store.end_recovery_turn(self._rq.name)
        return True

    def _run(self) -> None:
        self.recover_leases()
        metrics.EVICTED.inc(self._store.make_room())
        self._rq.enqueue_scheduled(int(self._store.time()))
        self.sweep()
        if self._rq.maintenance_due:
            self.clean_registries()

    def clean_registries(self) -> None:
        """Remove expired entries from RQ's registries, and what RQ leaves in them."""
        self._store.trim_registries(self._queues)
        self._rq.run_maintenance_tasks()

    def recover_leases(self) -> None:
        """Retries or fails jobs whose lease has expired by Redis's clock, and records those that failed."""
        self._store.sort_out_leases(self._queues)
        for id in self._rq.fail_abandoned(self._store.time()):
            metrics.LEASES.inc()
            log.warning("lease ran out", extra=job_fields(id))
            self._record_end(id)

    def _record_end(self, id: str) -> None:
        batch = batch_of(id)
        try:
            if batch:
                self._batches.fetch(batch)
                return
            self._store.look_after([id])
            if (self._store.fetch(id).error or {}).get("code") == "poison":
                metrics.QUARANTINED.labels("poison").inc()
        except (NotFound, Expired, Lost):
            log.debug("no picture", extra=job_fields(id))

    def sweep(self) -> None:
        """Record jobs that ended without a worker of ours, and requeue open ones that are in no queue."""
        for _ in range(SWEEPS):
            checked, changed = self._store.sweep(SWEEP_AFTER_SECONDS)
            if changed:
                log.info("checked %d open records: %d had ended or were requeued", checked, changed)
            if changed < checked or not checked:  # only after `rq empty` or the like there is more to do
                break
