"""Runs jobs on RQ's own path: other functions, callbacks, retries, dependents."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence

from rq.exceptions import NoSuchJobError
from rq.job import Job

from shared.claims import Claim, Ran, note_of
from shared.store import Store
from worker.queue.heartbeat import Heartbeat
from worker.queue.jobs import ForbiddenJob, UnreadableJob, code_and_message, finish
from worker.queue.oom_retry import Fenced
from worker.queue.rq_compat import DEFAULT_TIMEOUT, RqWorker, RunningJob, function_names
from worker.telemetry.job_logs import job_fields

log = logging.getLogger("digitq.worker")


class ForeignJobs:
    """Runs claimed jobs as SimpleWorker would, and takes the steps of other jobs that are left to RQ."""

    def __init__(self, rq: RqWorker, store: Store, heartbeat: Heartbeat, allowed: Collection[str]) -> None:
        self._rq, self._store, self._heartbeat, self._allowed = rq, store, heartbeat, allowed

    def run(self, claim: Claim) -> None:
        """Run a job whose function and callbacks are allowed; fail any other."""
        try:
            running = self._rq.load(claim)
        except NoSuchJobError as error:
            log.warning("%s", error)
            self._store.finish(self._rq.name, [finish(claim, UnreadableJob())])
            return
        job, *_ = running
        timeout = job.timeout or DEFAULT_TIMEOUT
        self._heartbeat.extend(timeout if timeout > 0 else float("inf"))
        try:
            self._check_allowed(job)
        except ForbiddenJob as error:
            self.fail(claim, error, running)
        else:
            try:
                self._rq.perform(running)
            except Fenced:
                _log_lost(claim.id, "result")

    def _check_allowed(self, job: Job) -> None:
        try:
            names = function_names(job)
        except Exception as error:
            raise ForbiddenJob("The job is not JSON.") from error
        for name in names:
            if name not in self._allowed:
                raise ForbiddenJob(f"{name} is not on this worker's list of functions.")

    def fail(self, claim: Claim, error: Exception, running: RunningJob | None = None) -> None:
        """Fails a job with an error that is not the picture's: RQ retries it, or it ends and the end is recorded."""
        try:
            if not self._store.renew(self._rq.name, [claim]):
                raise Fenced
            failed = self._rq.fail(running or self._rq.load(claim), error, refused=isinstance(error, ForbiddenJob))
        except NoSuchJobError as gone:
            log.warning("%s", gone)
        except Fenced:
            _log_lost(claim.id, "failure")
        else:
            if failed:
                self._store.end_alone(claim.id, claim.attempt, "failed", note_of(code_and_message(error), Ran()))

    def refuse(self, claims: Sequence[Claim]) -> None:
        """Fails jobs with a key that has the wrong type."""
        for claim in claims:
            log.error("cannot be read: %s", claim.error, extra=job_fields(claim.id))
        ended = [finish(claim, UnreadableJob(f"The job cannot be read: {claim.error}.")) for claim in claims]
        self.follow_up(claims, *self._store.finish(self._rq.name, ended))

    def follow_up(self, claims: Sequence[Claim], fenced: Sequence[str], dependents: Sequence[str]) -> None:
        """Take the steps after finish.lua: log jobs that were fenced off, enqueue the dependents of others."""
        for id in fenced:
            _log_lost(id, "result")
        for claim in claims:
            if claim.id in dependents:
                self._rq.enqueue_dependents(claim)


def _log_lost(id: str, what: str) -> None:
    log.warning("lease lost before the end, %s dropped", what, extra=job_fields(id))
