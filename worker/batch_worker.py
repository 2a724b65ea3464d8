"""The worker: an RQ SimpleWorker that claims, classifies and finishes pictures in batches.

Walk: `work` loops over `maintain`, `claim` and `run`; `run_batch` is the fast path, `run_alone` is RQ's own path for
every job that is not a plain picture.
"""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import socket
import time
from collections.abc import Callable, Collection, Sequence
from types import FrameType
from typing import Any
from uuid import uuid4

from redis import RedisError
from rq import SimpleWorker, worker_registration
from rq.exceptions import NoSuchJobError
from rq.executions import Execution
from rq.job import Job
from rq.queue import Queue
from rq.registry import StartedJobRegistry
from rq.timeouts import JobTimeoutException
from rq.utils import now
from rq.worker.base import WorkerStatus

from shared import keys
from shared.claims import Claim
from shared.errors import DigitqError, Expired, Lost, NotFound, RedisUnavailable
from shared.prediction import Outcome
from shared.store import Store
from worker.classify import NOT_CLASSIFIED, Classified
from worker.doorbell import Doorbell
from worker.heartbeat import Heartbeat
from worker.jobs import ForbiddenJob, UnreadableJob, check_allowed, finish, guarded, image_id, timeout_seconds

log = logging.getLogger("digitq.worker")

#: Every so many claims another queue is asked first, so that a flood of urgent pictures cannot starve the rest.
TURNS = 8
#: Seconds between two looks for expired leases, and how long an idle worker waits at most for the bell.
MAINTENANCE_SECONDS = 1.0
#: Seconds between two rounds of RQ's own, slower maintenance.
RQ_MAINTENANCE_SECONDS = 60
#: What a batch may take beyond its timeout before the process is given up.
GRACE_SECONDS = 10


class BatchWorker(SimpleWorker):
    """Serves digitq's queues. `classify` takes the pictures' bytes and gives a result for each, in order."""

    def __init__(
        self,
        store: Store,
        classify: Callable[[Sequence[bytes]], Classified],
        *,
        queues: Sequence[str] = keys.QUEUES,
        card: dict[str, Any] | None = None,
        allowed: Collection[str] = (),
        name: str | None = None,
    ) -> None:
        self.allowed = {keys.JOB_FUNCTION, *allowed}
        super().__init__(
            list(queues),
            name=name or f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:8]}",
            connection=store.client,
            serializer="json",
            job_class=guarded(self.allowed),
            maintenance_interval=RQ_MAINTENANCE_SECONDS,
            worker_ttl=60,
        )
        self.store, self.classify = store, classify
        self.card = card or {}
        self.bell = Doorbell(store.client, queues)
        self.pulse = Heartbeat(store, self.name, json.dumps(self.card) if self.card else "", self._on_beat)
        self._claims = 0
        self._company = False
        self._maintained = float("-inf")

    def _set_connection(self, connection: Any) -> Any:
        """RQ would raise the socket timeout to that of its BLPOP; ours never blocks in the pool's connections."""
        return connection

    # ------------------------------------------------------------------ the loop

    def work(self, burst: bool = False, logging_level: str | None = None, **_: Any) -> bool:  # type: ignore[override]  # RQ's further options do not apply
        """Serves until told to stop; with `burst`, until the queues are empty. True if it ran anything."""
        self.bootstrap(logging_level or "WARNING")
        self._install_signal_handlers()
        self.pulse.beat()
        self.pulse.start()
        worked, failures = False, 0
        try:
            while not self._stop_requested:
                try:
                    self.maintain(burst)
                    claims = [] if self._stop_requested else self.claim()
                    if claims:
                        self.run(claims)
                        worked = True
                    elif burst:
                        break
                    else:
                        self.bell.wait(MAINTENANCE_SECONDS)
                    failures = 0
                except (RedisUnavailable, RedisError, OSError) as error:
                    failures += 1
                    self._back_off(error.__cause__ or error, failures)
                except Exception as error:  # a bug of ours must not take the queue down with it
                    failures += 1
                    log.exception("unexpected")
                    self._back_off(error, failures)
        finally:
            self._say_goodbye()
        return worked

    def _back_off(self, error: BaseException, failures: int) -> None:
        """Exponential back-off with full jitter, so that a fleet does not return in one wave."""
        seconds = random.uniform(0.05, min(2.0, 0.1 * 2**failures))
        log.warning("%s: trying again in %.1f s", error, seconds)
        self.bell.hang_up()
        time.sleep(seconds)

    def _say_goodbye(self) -> None:
        self.pulse.stop()
        try:
            self.store.leave(self.name)
            self.teardown()
        except (RedisUnavailable, RedisError, OSError) as error:
            log.warning("could not sign off: %s", error)
        self.bell.close()

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        """Warm shutdown: the batch in hand is finished, nothing more is claimed. A second signal stops at once."""
        self._stop_requested = True
        self._shutdown_requested_date = now()
        signal.signal(signal.SIGINT, self.request_force_stop)
        signal.signal(signal.SIGTERM, self.request_force_stop)
        self.bell.ring()

    # ------------------------------------------------------------------ maintenance

    def maintain(self, burst: bool) -> None:
        """About once a second: honour `rq suspend`, give abandoned jobs back, and now and then RQ's own rounds."""
        if time.monotonic() - self._maintained < MAINTENANCE_SECONDS:
            return
        self._maintained = time.monotonic()
        if not burst:
            self.check_for_suspension(burst)
        # RQ's rounds recover too: two at once would put a job back that a third has already claimed again.
        if self.store.recovery_turn(self.name):
            self.recover()
            if self.should_run_maintenance_tasks:
                self.run_maintenance_tasks()
            self.store.end_recovery_turn()

    def recover(self) -> None:
        """RQ's recovery of expired leases, by Redis's clock; then the records follow."""
        abandoned: list[str] = []
        cutoff = self.store.time()
        for queue in self.queues:
            StartedJobRegistry(queue=queue, job_class=self.job_class).cleanup(
                cutoff, [lambda job, *_: abandoned.append(job.id)]
            )
        for id in abandoned:
            log.warning("lease ran out id=%s", id)
            self._repair(id)

    def _repair(self, id: str) -> None:
        try:
            self.store.fetch(id)
        except (NotFound, Expired, Lost):
            log.debug("no record to repair id=%s", id)

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
        self.heartbeat()

    # ------------------------------------------------------------------ claim

    def claim(self) -> list[Claim]:
        """What waits, up to a batch; under the lease from the moment it leaves the queue."""
        self._claims += 1
        order, limit = self._order(), self.store.settings.batch_max_size
        claims = self.store.claim(self.name, order, limit, uuid4().hex)
        wait_ms = self.store.settings.batch_max_wait_ms
        if wait_ms and self._company and claims and claims[0].batchable and len(claims) < limit:
            time.sleep(wait_ms / 1000)
            more = self.store.claim(self.name, order, limit - len(claims), uuid4().hex)
            if more and (more[0].attempt > 1 or not more[0].batchable):
                self.store.release(self.name, more)  # it goes alone
            else:
                claims += more
        self._company = len(claims) > 1
        return claims

    def _order(self) -> list[str]:
        names = self.queue_names()
        turn = self._claims % TURNS
        first = {TURNS - 1: names[-1], TURNS // 2 - 1: names[len(names) // 2]}.get(turn, names[0])
        return [first, *(name for name in names if name != first)]

    # ------------------------------------------------------------------ run

    def run(self, claims: Sequence[Claim]) -> None:
        """Pictures of ours together, then the others one by one."""
        ours = [claim for claim in claims if claim.batchable and image_id(claim)]
        others = [claim for claim in claims if claim not in ours]
        with self.pulse.holding(claims, min(timeout_seconds(claim) for claim in claims) + GRACE_SECONDS):
            if ours:
                rest = self.run_batch(ours)
                if rest:
                    self.store.release(self.name, rest)
            for claim in others:
                self.run_alone(claim)

    def run_batch(self, claims: Sequence[Claim]) -> Sequence[Claim]:
        """Classifies and finishes a batch: one script writes RQ's state and our records for all of them.

        Returns the claims that it did not come to.
        """
        start = time.perf_counter()
        images = [claim.image or self._image_elsewhere(claim) for claim in claims]
        gone = [(claim, Expired()) for claim, image in zip(claims, images, strict=True) if not image]
        there = [(claim, image) for claim, image in zip(claims, images, strict=True) if image]
        done = self._classify([image for _, image in there], min(timeout_seconds(claim) for claim in claims))
        ended = [*gone, *((claim, result) for (claim, _), result in zip(there, done.results, strict=False))]
        finishes = [finish(claim, result) for claim, result in ended if isinstance(result, Outcome | DigitqError)]
        fenced, dependents = self.store.finish(
            self.name,
            finishes,
            model=str(self.card.get("version", "")),
            timings_ms=(round(done.preprocess_ms, 3), round(done.inference_ms, 3)),
            seconds=round(time.perf_counter() - start, 6),
        )
        self._follow_up(claims, fenced, dependents)
        for claim, result in ended:
            if not isinstance(result, Outcome | DigitqError):
                self._fail(claim, result)
        log.debug("batch size=%d fenced=%d seconds=%.4f", len(claims), len(fenced), time.perf_counter() - start)
        return [claim for claim, _ in there[len(done.results) :]]

    def _classify(self, images: Sequence[bytes], timeout: int) -> Classified:
        """Within the time limit; if the batch as a whole fails, each picture alone, so that only the culprit fails."""
        if not images:
            return Classified([], 0.0, 0.0)
        try:
            with self.death_penalty_class(timeout, JobTimeoutException):
                return self.classify(images)
        except Exception as error:
            if len(images) == 1:
                return Classified([error], 0.0, 0.0)
        log.warning("a batch of %d failed as a whole, trying each alone", len(images))
        alone = []
        for image in images:
            self.pulse.extend(timeout + GRACE_SECONDS)
            alone.append(self._classify([image], timeout))
            if self._stop_requested:
                break
        return Classified(
            [result for one in alone for result in one.results],
            sum(one.preprocess_ms for one in alone),
            sum(one.inference_ms for one in alone),
        )

    def _image_elsewhere(self, claim: Claim) -> bytes | None:
        """A plain RQ client may name the picture otherwise than its job."""
        named = image_id(claim)
        return self.store.image(named) if named and named != claim.id else None

    def _follow_up(self, claims: Sequence[Claim], fenced: Sequence[str], dependents: Sequence[str]) -> None:
        for id in fenced:
            log.warning("lease lost before the end, result dropped id=%s", id)
        for claim in claims:
            if claim.id in dependents:
                job, queue, execution = self._rq(claim)
                self.executions.pop(execution.id)
                queue.enqueue_dependents(job)

    # ------------------------------------------------------------------ RQ's own path

    def run_alone(self, claim: Claim) -> None:
        """A job with another function, callbacks, dependents or the like: as SimpleWorker runs it."""
        try:
            job, queue, execution = self._rq(claim)
        except NoSuchJobError as error:
            log.warning("%s", error)
            ended = finish(claim, UnreadableJob())
            self.store.finish(self.name, [ended], model="", timings_ms=(0, 0), seconds=0)
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
        """An error that is not the picture's: RQ retries the job or fails it, and the record follows."""
        if not self.store.renew(self.name, [claim]):
            log.warning("lease lost before the end, failure dropped id=%s", claim.id)
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
            self.store.end_record(claim.id, "failed", error_code=code, error_message=message)
        else:
            self._repair(claim.id)
