"""RQ's own path, for every job that is not a plain picture or chunk, and for failures that are not the picture's."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from rq.exceptions import NoSuchJobError
from rq.executions import Execution
from rq.job import Job
from rq.queue import Queue
from rq.timeouts import JobTimeoutException
from rq.utils import now
from rq.worker.base import WorkerStatus

from shared.claims import Claim, Ran, note_of
from shared.errors import DigitqError
from worker.inference.classify import NOT_CLASSIFIED
from worker.queue.jobs import ForbiddenJob, UnreadableJob, check_allowed, finish, named
from worker.queue.time_limit import TimeLimit
from worker.queue.upkeep import Upkeep

log = logging.getLogger("digitq.worker")

#: What a batch may take beyond its timeout before the process is given up.
GRACE_SECONDS = 10


class RunsAlone(Upkeep):
    """Runs one claimed job as SimpleWorker would, and fails or follows up what a batch leaves to RQ."""

    death_penalty_class = TimeLimit

    def run_alone(self, claim: Claim) -> None:
        """A job with another function, callbacks, dependents or the like: as SimpleWorker runs it."""
        try:
            job, queue, execution = self._rq(claim)
        except NoSuchJobError as error:
            log.warning("%s", error)
            ended = finish(claim, UnreadableJob())
            self.store.finish(self.name, [ended])
            return
        timeout = job.timeout or queue.DEFAULT_TIMEOUT
        self.pulse.extend(timeout + GRACE_SECONDS if timeout > 0 else float("inf"))
        try:
            check_allowed(job, self.allowed)
        except ForbiddenJob as error:
            job.retries_left = 0
            job._success_callback_name = job._failure_callback_name = None
            self._fail(claim, error, job)
        else:
            self.perform_job(job, queue, execution)
        self.set_state(WorkerStatus.IDLE)

    def _rq(self, claim: Claim) -> tuple[Job, Queue, Execution]:
        """The claim in RQ's terms."""
        queue = next(queue for queue in self.queues if queue.name == claim.queue)
        job = self.job_class.fetch(claim.id, connection=self.connection, serializer=self.serializer)
        execution = Execution(claim.execution, claim.id, self.connection, self.name)
        execution._job = job
        self.executions[execution.id] = execution
        return job, queue, execution

    def _fail(self, claim: Claim, error: Exception, job: Job | None = None) -> None:
        """An error that is not the picture's: RQ retries the job or fails it; then its end is told."""
        if not self.store.renew(self.name, [claim]):
            log.warning("lease lost before the end, failure dropped", extra=named(claim.id))
            return
        try:
            fetched, queue, execution = self._rq(claim)
        except NoSuchJobError as gone:
            log.warning("%s", gone)
            return
        job = job or fetched
        job.started_at = job.started_at or now()
        self._finalize_failure(job, queue, execution, (type(error), error, error.__traceback__))
        if self.connection.hget(job.key, "status") in (b"failed", None):  # None: kept for no time at all
            timed_out = isinstance(error, JobTimeoutException)
            code = error.code if isinstance(error, DigitqError) else "timeout" if timed_out else "internal_error"
            message = str(error) if isinstance(error, DigitqError) else NOT_CLASSIFIED
            self.store.end_alone(claim.id, "failed", note_of((code, message), Ran()))

    def _follow_up(self, claims: Sequence[Claim], fenced: Sequence[str], dependents: Sequence[str]) -> None:
        for id in fenced:
            log.warning("lease lost before the end, result dropped", extra=named(id))
        for claim in claims:
            if claim.id in dependents:
                job, queue, execution = self._rq(claim)
                self.executions.pop(execution.id)
                queue.enqueue_dependents(job)
