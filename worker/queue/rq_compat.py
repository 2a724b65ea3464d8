"""Everything that digitq overrides, calls or reads of RQ and that RQ does not document; no other module does.

Written for RQ 3.0. `tests/unit/test_rq_equivalence.py` compares the effect with that of a stock worker.
"""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from types import FrameType
from typing import Any

import redis
from rq import SimpleWorker, registry, worker_registration
from rq.defaults import DEFAULT_RESULT_TTL as DEFAULT_RESULT_TTL
from rq.exceptions import NoSuchJobError
from rq.executions import Execution
from rq.job import Job, JobStatus
from rq.queue import Queue
from rq.rate_limit import RateLimitRegistry
from rq.utils import now
from rq.worker.base import WorkerStatus

from shared.claims import Claim
from shared.settings import Settings
from worker.queue.limits import TimeLimit
from worker.queue.oom_retry import Fence, Fenced, OomRetryRedis
from worker.telemetry.job_logs import job_fields

log = logging.getLogger("digitq.worker")

#: Seconds for which a job may run that has no timeout.
DEFAULT_TIMEOUT: int = Queue.DEFAULT_TIMEOUT
#: A claimed job as RQ's worker methods take it.
RunningJob = tuple[Job, Queue, Execution]


def function_names(job: Job) -> list[str]:
    """Return the names of a job's function and callbacks; RQ's public properties import them. Raises if unreadable."""
    callbacks = (job._success_callback_name, job._failure_callback_name, job._stopped_callback_name)
    return [str(job.func_name), *(name for name in callbacks if isinstance(name, str) and name)]


def restricted_job(allowed: Collection[str]) -> type[Job]:
    """Return RQ's Job without what RQ's recovery would do for a job that nobody has checked.

    Callbacks that are not allowed are None, webhooks are not called, and a job that cannot be parsed counts as missing:
    in RQ it would stop the recovery of all jobs. A status is written in the transaction that needs it.
    """

    def if_allowed(kind: str) -> Any:
        inherited = getattr(Job, f"{kind}_callback").fget
        return property(lambda job: inherited(job) if getattr(job, f"_{kind}_callback_name") in allowed else None)

    class RestrictedJob(Job):
        success_callback, failure_callback, stopped_callback = map(if_allowed, ("success", "failure", "stopped"))

        def send_webhooks(self, status: Any, *, exc_string: str | None = None) -> None:
            if self.webhooks:  # the URL is not logged: it may hold a secret
                log.warning("webhooks of an RQ job are not called: use callback_url", extra=job_fields(self.id))

        def set_status(self, status: JobStatus, pipeline: Any = None) -> None:
            if pipeline is None and status is JobStatus.SCHEDULED:  # a retry writes it at once, and again in the fence
                self._status = status
            else:
                super().set_status(status, pipeline)

        def restore(self, raw_data: Any) -> Any:
            try:
                return super().restore(raw_data)
            except Exception as error:
                raise NoSuchJobError(f"job {self.id} cannot be read: {error}") from error

    return RestrictedJob


def fenced(step: str) -> Any:
    """Return a method of RQ's worker whose transaction raises Fenced once the lease of the running job is lost."""
    inherited = getattr(SimpleWorker, step)

    def within_lease(worker: RqWorker, *args: Any, **options: Any) -> Any:
        with worker._redis.fenced(**worker._lease):
            return inherited(worker, *args, **options)

    return within_lease


class RqWorker(SimpleWorker):
    """An RQ SimpleWorker that registers, runs jobs and cleans registries as RQ does, and dequeues nothing.

    It writes to a job that it runs or fails only while its lease of the job is valid, as finish.lua does.
    """

    death_penalty_class = TimeLimit  # type: ignore[assignment]  # RQ wants a subclass, and calls the constructor

    def __init__(
        self, connection: OomRetryRedis, queues: Sequence[str], name: str, allowed: Collection[str], settings: Settings
    ) -> None:
        super().__init__(
            list(queues), name=name, connection=connection, serializer="json", job_class=restricted_job(allowed),
            default_result_ttl=min(DEFAULT_RESULT_TTL, settings.result_ttl_seconds), maintenance_interval=60,
            worker_ttl=60,
        )  # fmt: skip
        self._redis, self._margin = connection, settings.lease_margin()
        #: The lease of the job that runs.
        self._lease: Fence = {}

    prepare_job_execution = fenced("prepare_job_execution")
    handle_job_retry = fenced("handle_job_retry")
    handle_job_success = fenced("handle_job_success")
    handle_job_failure = fenced("handle_job_failure")

    def handle_execution_ended(self, job: Job, queue: Queue, heartbeat_ttl: int) -> None:
        """Note the time of the end; RQ also writes a heartbeat, which would restore a part of a deleted job."""
        job.ended_at = now()

    def _finalize_failure(self, job: Job, queue: Queue, execution: Execution, exc_info: Any) -> None:
        """End a job that raised. Raises Fenced if the lease is lost, which is no failure of the job."""
        if isinstance(exc_info[1], Fenced):
            raise exc_info[1]
        super()._finalize_failure(job, queue, execution, exc_info)

    def _set_connection(self, connection: redis.Redis) -> redis.Redis:
        """Keep the socket timeout: RQ raises it above that of its BLPOP, which is not used here."""
        return connection

    def _pubsub_exception_handler(self, exc: Exception, pubsub: Any, pubsub_thread: Any) -> None:
        """Keep the thread running that receives `rq` commands: RQ ends it on a timeout."""
        log.debug("listening for commands again: %s", exc)
        time.sleep(2)

    def start(self, logging_level: str) -> None:
        """Register the worker, subscribe to RQ's commands and handle signals: the first part of RQ's `work`."""
        self.bootstrap(logging_level)
        self._install_signal_handlers()
        self.set_state(WorkerStatus.IDLE)

    def stop(self) -> None:
        """Unregisters and unsubscribes: the last part of RQ's `work`."""
        self.teardown()

    @property
    def stopping(self) -> bool:
        """True once the worker is to stop; RQ has no public name for it."""
        return self._stop_requested

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        """Stop after the running batch, and at once on a second signal; RQ raises an exception where it waits."""
        self._stop_requested = True
        self._shutdown_requested_date = now()
        signal.signal(signal.SIGINT, self.request_force_stop)
        signal.signal(signal.SIGTERM, self.request_force_stop)

    def report(self, fields: dict[str, str]) -> None:
        """Send RQ's heartbeat and these fields, and register again where Redis has lost the worker: RQ never does."""
        if not self.connection.sismember(self.redis_workers_keys, self.key):
            with self.connection.pipeline() as pipeline:
                pipeline.hset(self.key, mapping=self.serialize())
                worker_registration.register(self, pipeline)
                pipeline.execute()
        self.connection.hset(self.key, mapping=fields)  # type: ignore[arg-type]  # redis-py's dict is invariant
        self.heartbeat()

    def load(self, claim: Claim) -> RunningJob:
        """Return the claimed job with the execution that claim.lua has written. Raises NoSuchJobError."""
        queue = next(queue for queue in self.queues if queue.name == claim.queue)
        job = self.job_class.fetch(claim.id, connection=self.connection, serializer=self.serializer)
        execution = Execution(claim.execution, claim.id, self.connection, self.name)
        execution._job = job
        self.executions[execution.id] = execution
        return job, queue, execution

    def perform(self, running: RunningJob) -> None:
        """Run a job with its callbacks, result and dependents: `execute_job` without a new execution. Raises Fenced."""
        self._hold(running)
        self.perform_job(*running)
        self.set_state(WorkerStatus.IDLE)

    def _hold(self, running: RunningJob) -> None:
        _, queue, execution = running
        self._lease = {"queue": queue.name, "member": execution.composite_key, "margin": self._margin}

    def fail(self, running: RunningJob, error: Exception, refused: bool = False) -> bool:
        """Fails a job as RQ does when it raises; a refused one without retries and callbacks.

        Returns False if it is retried. Raises Fenced.
        """
        self._hold(running)
        job, queue, execution = running
        job.started_at = job.started_at or now()
        if refused:
            job.retries_left = 0
            job._success_callback_name = job._failure_callback_name = None
        self._finalize_failure(job, queue, execution, (type(error), error, error.__traceback__))
        # A job with a failure TTL of 0 has been deleted and has no status.
        return self.connection.hget(job.key, "status") in (b"failed", None)

    def enqueue_dependents(self, claim: Claim) -> None:
        """Enqueues the dependents of a job that finish.lua has ended: the only step that the script leaves to RQ."""
        job, queue, execution = self.load(claim)
        self.executions.pop(execution.id)
        queue.enqueue_dependents(job)

    def wait_while_suspended(self) -> None:
        """Blocks between `rq suspend` and `rq resume`."""
        self.check_for_suspension(burst=False)

    @property
    def maintenance_due(self) -> bool:
        """True about once a minute: `run_maintenance_tasks` is to be called then."""
        return bool(self.should_run_maintenance_tasks)

    def clean_registries(self) -> None:
        """Clean RQ's registries except that of running jobs, which `fail_abandoned` cleans by Redis's clock."""
        for queue in self.queues:
            for name in ("Finished", "Failed", "Deferred", "Ready"):
                getattr(registry, f"{name}JobRegistry")(queue=queue, job_class=self.job_class).cleanup()
            worker_registration.clean_worker_registry(queue)
            queue.intermediate_queue.cleanup(self, queue)
        for limited in RateLimitRegistry.all(self.connection):
            limited.cleanup()
        self.last_cleaned_at = now()  # type: ignore[assignment]  # RQ declares it by its first value, None

    def fail_abandoned(self, timestamp: float) -> list[str]:
        """Lets RQ retry or fail the jobs whose lease ended before this Unix time. Returns their ids."""
        abandoned: list[str] = []
        for queue in self.queues:
            running = registry.StartedJobRegistry(queue=queue, job_class=self.job_class)
            found: list[str] = []
            with suppress(Fenced, redis.WatchError), self._redis.fenced(turn=self.name):
                running.cleanup(timestamp, [lambda job, *_, found=found: found.append(job.id)])
                abandoned += found
        return abandoned

    def enqueue_scheduled(self, timestamp: int) -> None:
        """Enqueues jobs due at this Unix time; RQ's scheduler is a process more, and one damaged job stops it."""
        for queue in self.queues:
            scheduled = registry.ScheduledJobRegistry(queue=queue, job_class=self.job_class)
            for id in scheduled.get_jobs_to_schedule(timestamp, chunk_size=100):
                try:
                    job = self.job_class.fetch(id, connection=self.connection, serializer=self.serializer)
                except (NoSuchJobError, redis.ResponseError) as error:
                    log.warning("a scheduled job cannot be read: %s", error, extra=job_fields(id))
                    scheduled.remove(id)
                    continue
                with self.connection.pipeline() as pipeline:
                    shared = None if job.has_rate_limit else pipeline  # a rate limit needs a transaction of its own
                    queue.enqueue_job(job, pipeline=shared, at_front=job.should_enqueue_at_front())
                    scheduled.remove(id, pipeline=pipeline)
                    pipeline.execute()
