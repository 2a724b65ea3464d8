"""The worker as RQ knows it: its registration, its rounds, and the recovery of what others have dropped."""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import Any
from uuid import uuid4

from redis import ResponseError
from rq import SimpleWorker, worker_registration
from rq.defaults import DEFAULT_RESULT_TTL
from rq.exceptions import NoSuchJobError
from rq.rate_limit import RateLimitRegistry
from rq.registry import (
    DeferredJobRegistry,
    FailedJobRegistry,
    FinishedJobRegistry,
    ReadyJobRegistry,
    ScheduledJobRegistry,
    StartedJobRegistry,
)
from rq.utils import now

from shared import keys
from shared.batches import Batches, batch_of
from shared.errors import Expired, Lost, NotFound, RedisUnavailable
from shared.store import Store
from worker.queue.heartbeat import Heartbeat
from worker.queue.insistent import InsistentRedis
from worker.queue.jobs import guarded, named
from worker.telemetry import metrics
from worker.telemetry.speed import Speed

log = logging.getLogger("digitq.worker")

#: Seconds between two looks for expired leases, and how long an idle worker waits at most for the bell.
MAINTENANCE_SECONDS = 1.0
#: Seconds between two rounds of RQ's own, slower maintenance.
RQ_MAINTENANCE_SECONDS = 60
#: Seconds after which what is open and was not looked at is looked at, and steps of this that one turn takes.
SWEEP_AFTER_SECONDS, SWEEPS = 30.0, 5
#: Scheduled jobs of a queue that one turn enqueues.
DUE_AT_ONCE = 100


class Upkeep(SimpleWorker):
    """A SimpleWorker on our queues that recovers by Redis's clock, and that Redis may forget and meet again."""

    def __init__(
        self,
        store: Store,
        queues: Sequence[str],
        card: dict[str, Any] | None,
        allowed: Collection[str],
        name: str | None,
        device: str = "cpu",
    ) -> None:
        self.allowed = {keys.JOB_FUNCTION, keys.CHUNK_FUNCTION, *allowed}
        super().__init__(
            list(queues),
            name=name or f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:8]}",
            connection=InsistentRedis(store.client),
            serializer="json",
            job_class=guarded(self.allowed),
            default_result_ttl=min(DEFAULT_RESULT_TTL, store.settings.result_ttl_seconds),
            maintenance_interval=RQ_MAINTENANCE_SECONDS,
            worker_ttl=60,
        )
        self.store, self.batches, self.card = store, Batches(store), card or {}
        self.device, self.speed = device, Speed()
        self.pulse = Heartbeat(store, self.name, json.dumps(self.card) if self.card else "", self._on_beat)
        self._maintained = float("-inf")

    def _set_connection(self, connection: Any) -> Any:
        """RQ would raise the socket timeout to that of its BLPOP; ours never blocks in the pool's connections."""
        return connection

    def maintain(self, burst: bool) -> None:
        """About once a second: honour `rq suspend`, recover abandoned jobs, make room, and at times RQ's rounds."""
        if time.monotonic() - self._maintained < MAINTENANCE_SECONDS:
            return
        self._maintained = time.monotonic()
        self.store.check_server()
        if not burst:
            self.check_for_suspension(burst)
        # RQ's rounds recover too: two at once would put a job back that a third has already claimed again.
        if self.store.recovery_turn(self.name):
            try:
                self.recover()
                metrics.EVICTED.inc(self.store.make_room())
                self.enqueue_due()
                self.look_after()
                if self.should_run_maintenance_tasks:
                    self.run_maintenance_tasks()
            finally:
                with suppress(RedisUnavailable):
                    self.store.end_recovery_turn(self.name)

    def clean_registries(self) -> None:
        """RQ's rounds, but for jobs that are running: `recover` looks after them, by Redis's clock and not by ours."""
        for queue in self.queues:
            for registry in (FinishedJobRegistry, FailedJobRegistry, DeferredJobRegistry, ReadyJobRegistry):
                registry(queue=queue, job_class=self.job_class).cleanup()
            worker_registration.clean_worker_registry(queue)
            queue.intermediate_queue.cleanup(self, queue)
        self.store.trim_registries(self.queue_names())
        for limited in RateLimitRegistry.all(self.connection):
            limited.cleanup()
        self.last_cleaned_at = now()  # type: ignore[assignment]  # RQ declares it by its first value, None

    def recover(self) -> None:
        """RQ's recovery of expired leases, by Redis's clock; what it has failed is told."""
        abandoned: list[str] = []
        self.store.sort_out_leases(self.queue_names())
        cutoff = self.store.time()
        for queue in self.queues:
            StartedJobRegistry(queue=queue, job_class=self.job_class).cleanup(
                cutoff, [lambda job, *_: abandoned.append(job.id)]
            )
        for id in abandoned:
            metrics.LEASES.inc()
            log.warning("lease ran out", extra=named(id))
            self._tell(id)

    def enqueue_due(self) -> None:
        """Enqueues scheduled jobs that are due, as RQ's scheduler does: retries with an interval, `enqueue_in`."""
        due = int(self.store.time())
        for queue in self.queues:
            registry = ScheduledJobRegistry(queue=queue, job_class=self.job_class)
            for id in registry.get_jobs_to_schedule(due, DUE_AT_ONCE):
                try:
                    job = self.job_class.fetch(id, connection=self.connection, serializer=self.serializer)
                except (NoSuchJobError, ResponseError) as error:  # gone, or damaged: the others need not wait for it
                    log.warning("a scheduled job cannot be read: %s", error, extra=named(id))
                    registry.remove(id)
                    continue
                with self.connection.pipeline() as pipeline:
                    together = None if job.has_rate_limit else pipeline  # RQ gives those a transaction of their own
                    queue.enqueue_job(job, pipeline=together, at_front=job.should_enqueue_at_front())
                    registry.remove(id, pipeline=pipeline)
                    pipeline.execute()

    def look_after(self) -> None:
        """Tells the ends that came without us, and puts back what stands in no queue."""
        for _ in range(SWEEPS):
            looked, changed = self.store.sweep(SWEEP_AFTER_SECONDS)
            if changed:
                log.info("looked after %d that are open: %d had ended, or went back", looked, changed)
            if changed < looked or not looked:  # after `rq empty` there is much to do, and usually nothing
                break

    def _tell(self, id: str) -> None:
        """RQ has put an abandoned job back, or has failed it: then its end is told."""
        batch = batch_of(id)
        try:
            if batch:
                self.batches.fetch(batch)
                return
            self.store.look_after([id])
            if (self.store.fetch(id).error or {}).get("code") == "poison":
                metrics.QUARANTINED.labels("poison").inc()
        except (NotFound, Expired, Lost):
            log.debug("no picture", extra=named(id))

    def _pubsub_exception_handler(self, exc: Exception, pubsub: Any, pubsub_thread: Any) -> None:
        """RQ's thread for `rq` commands ends on a timeout; it shall outlive whatever Redis does."""
        log.debug("listening for commands again: %s", exc)
        time.sleep(2)

    def _on_beat(self) -> None:
        """RQ's heartbeat, and a new registration where Redis has lost the old one."""
        if not self.connection.sismember(self.redis_workers_keys, self.key):
            with self.connection.pipeline() as pipeline:
                pipeline.hset(self.key, mapping=self.serialize())
                worker_registration.register(self, pipeline)
                pipeline.execute()
        speed = self.speed.at(self.store.settings.batch_max_size)
        self.connection.hset(self.key, mapping={"device": self.device, "speed": f"{speed or 0:.1f}"})
        self.heartbeat()
