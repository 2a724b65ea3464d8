"""The worker: an RQ SimpleWorker that claims, classifies and finishes pictures in batches.

`work` repeats three steps: recovery.py, claimer.py, and the runner of each kind of job (picture_runner.py,
chunk_runner.py, foreign_jobs.py).
"""

from __future__ import annotations

import json
import logging
import os
import random
import socket
import time
from collections.abc import Callable, Collection, Sequence
from types import FrameType
from typing import Any
from uuid import uuid4

from redis import RedisError

from shared import keys
from shared.batches import Batches
from shared.chunk_runs import ChunkRuns
from shared.claims import Claim, Finish, Ran
from shared.errors import RedisUnavailable
from shared.numbers import READS, Read
from shared.operations.leases import Ended
from shared.store import Store
from worker.inference.classify import Classified, Pictures
from worker.queue.chunk_runner import ChunkRunner
from worker.queue.claimer import Claimer
from worker.queue.foreign_jobs import ForeignJobs
from worker.queue.heartbeat import Heartbeat, exit_now
from worker.queue.jobs import by_kind, timeout_seconds
from worker.queue.oom_retry import OomRetryRedis
from worker.queue.picture_runner import BatchClassifier, PictureRunner
from worker.queue.recovery import RECOVERY_SECONDS, Recovery
from worker.queue.rq_compat import RqWorker
from worker.queue.serving import Serving, reads_no_numbers
from worker.queue.wakeup import Wakeup
from worker.telemetry import metrics
from worker.telemetry.speed import Speed

log = logging.getLogger("digitq.worker")

REDIS_ERRORS = (RedisUnavailable, RedisError, OSError)


class BatchWorker(RqWorker):
    """An RQ worker that claims and classifies pictures in batches.

    `classify(images)` must return one result per image, in order; so must `read_numbers`, for pictures to be read as
    numbers: without it they fail as `unknown_read`. `card` describes the model. `allowed` are the functions that
    foreign jobs may call, and `device` is what `digitq status` shows. `renewed(serving)` is asked between two batches,
    and returns what to serve with from then on: the same, or another model.
    """

    def __init__(
        self,
        store: Store,
        classify: Callable[[Pictures], Classified],
        read_numbers: Callable[[Pictures], Classified] = reads_no_numbers,
        *,
        queues: Sequence[str] = keys.QUEUES,
        card: dict[str, Any] | None = None,
        allowed: Collection[str] = (),
        name: str | None = None,
        device: str = "cpu",
        renewed: Callable[[Serving], Serving] = lambda serving: serving,
    ) -> None:
        name = name or f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:8]}"
        allowed = {*keys.OTHER_NAMES, *keys.OTHER_NAMES.values(), *allowed}
        super().__init__(OomRetryRedis(store.client), queues, name, allowed, store.settings)
        self.store, self.device, self.speed = store, device, Speed()
        self._queues, self._renewed = list(queues), renewed
        self.wakeup = Wakeup(store.client, queues)
        self.claimer = Claimer(store, name, queues)
        self.heartbeat_thread = Heartbeat(store, name, "", self._report)
        self.recovery = Recovery(self, store, Batches(store), queues)
        self.foreign_jobs = ForeignJobs(self, store, self.heartbeat_thread, allowed)
        self.serve(Serving(classify, read_numbers, card or {}))

    def serve(self, serving: Serving) -> None:
        """Serve with this model from the next batch on: what runs it and what names it are replaced together."""
        self.serving, store, name = serving, self.store, self.name
        self.heartbeat_thread.card = json.dumps(serving.card) if serving.card else ""
        self.classifier, self.page_classifier = (
            BatchClassifier(function, self.heartbeat_thread, lambda: self.stopping)
            for function in (serving.classify, serving.read_numbers)
        )
        classifiers: dict[Read, BatchClassifier] = {"digit": self.classifier, "numbers": self.page_classifier}
        versions = serving.version, serving.preprocessing
        self.pictures, self.pages = (
            PictureRunner(store, name, classifiers[read], self.foreign_jobs, *versions) for read in READS
        )
        self.chunks = ChunkRunner(
            store,
            ChunkRuns(store),
            name,
            classifiers,
            self.foreign_jobs,
            self.speed,
            self._run_more_urgent,
            serving.version,
        )
        metrics.serving(*versions, self.device, bool(serving.refused))

    def work(self, burst: bool = False, logging_level: str | None = None, **_: Any) -> bool:  # type: ignore[override]  # RQ's further options do not apply
        """Run jobs until told to stop; with `burst`, until the queues are empty. Returns True if it ran any."""
        self.start(logging_level or "WARNING")
        self.heartbeat_thread.beat()
        self.heartbeat_thread.start()
        worked, failures = False, 0
        try:
            while not self.stopping:
                try:
                    ran = self._run_next(burst)
                    worked, failures = worked or ran, 0
                    if burst and not ran:
                        break
                except MemoryError:
                    exit_now("out of memory")
                except Exception as error:  # also for a bug: it would end one worker after the other
                    failures += 1
                    self._give_back()
                    if not isinstance(error, REDIS_ERRORS):
                        log.exception("unexpected")
                    self._back_off(error.__cause__ or error, failures)
        finally:
            self._shut_down()
        return worked

    def _run_next(self, burst: bool) -> bool:
        """Run what can be claimed, or wait for a job. Returns True if it ran any."""
        if (serving := self._renewed(self.serving)) is not self.serving:
            self.serve(serving)
        # Recovery may take long, and may put jobs back where nothing was to claim.
        if not self.claimer.ahead and self.recovery.run_if_due(burst):
            self.claimer.ahead = None
        start = time.perf_counter()
        claims = [] if self.stopping else self.claimer.claim_batch()
        if claims:
            self.run(claims, then_claim=True)
            if claims[0].batchable:
                self.speed.add(len(claims), time.perf_counter() - start)
        elif not burst:
            self.wakeup.wait(RECOVERY_SECONDS)
        return bool(claims)

    def run(self, claims: Sequence[Claim], then_claim: bool = False) -> None:
        """Run claimed jobs under the heartbeat: pictures as one batch, then pages, chunks and foreign jobs.

        Pages are slow: the single digits that were claimed with them end first. With `then_claim` the next batch is
        claimed with the end of this one, if nothing else is to be done before.
        """
        claimed_at, self.heartbeat_thread.ahead = self.claimer.claimed_at, ()
        damaged, pictures, pages, chunks, foreign = by_kind(claims)
        if damaged:
            self.foreign_jobs.refuse(damaged)
        if not (claims := [*pictures, *pages, *chunks, *foreign]):
            return
        finisher = self._finish_and_claim if then_claim and len(claims) in (len(pictures), len(pages)) else None
        with self.heartbeat_thread.holding(claims, min(map(timeout_seconds, claims))):
            for runner, some in ((self.pictures, pictures), (self.pages, pages)):
                if some and (rest := runner.run(some, claimed_at, finisher)):
                    self.store.release(self.name, rest)
            for claim in chunks:
                self.chunks.run(claim, claimed_at)
            for claim in foreign:
                self.foreign_jobs.run(claim)

    def _finish_and_claim(self, finishes: Sequence[Finish], ran: Ran, seconds: float) -> Ended:
        """Finish a batch, and claim the next one in the same round trip, unless recovery or the end comes first."""
        if self.stopping or self.recovery.is_due:
            return self.store.finish(self.name, finishes, ran, seconds)
        ended = self.claimer.finish_and_claim(finishes, ran, seconds)
        self.heartbeat_thread.ahead = self.claimer.ahead or ()
        return ended

    def _give_back(self) -> None:
        """Release the claims ahead; if Redis fails, their leases expire."""
        try:
            self.claimer.give_back()
        except REDIS_ERRORS as error:
            log.warning("could not release claims: %s", error)
        self.heartbeat_thread.ahead = ()

    def _run_more_urgent(self, chunk: Claim) -> bool:
        """Run a batch from the queues before the chunk's own. Returns False if the worker is to stop."""
        urgent = self._queues[: self._queues.index(chunk.queue)]
        if urgent and not self.stopping:
            claims = self.claimer.claim(urgent, self.store.settings.batch_max_size)
            if claims:
                self.run(claims)
        return not self.stopping

    def _report(self) -> None:
        speed = self.speed.at(self.store.settings.batch_max_size)
        model = {"model": self.serving.version, "refused": self.serving.refused}
        self.report({"device": self.device, "speed": f"{speed or 0:.1f}"} | model)

    def _back_off(self, error: BaseException, failures: int) -> None:
        """Wait exponentially longer with full jitter, so that workers do not reconnect at the same time."""
        seconds = random.uniform(0.05, min(2.0, 0.1 * 2**failures))
        what = "redis: " if isinstance(error, REDIS_ERRORS) else ""
        log.warning(f"{what}%s, trying again in %.1f s", error, seconds)
        self.wakeup.disconnect()
        time.sleep(seconds)

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        """Stop after the running batch, and claim no more; a second signal stops at once."""
        super().request_stop(signum, frame)
        self.wakeup.wake()

    def _shut_down(self) -> None:
        self._give_back()
        self.heartbeat_thread.stop()
        try:
            self.store.leave(self.name)
            self.stop()
        except REDIS_ERRORS as error:
            log.warning("could not unregister the worker: %s", error)
        self.wakeup.close()
