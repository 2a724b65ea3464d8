"""Classifies claimed pictures as one batch, and stores their results with one script."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rq.timeouts import JobTimeoutException

from shared.claims import Claim, Finish, Ran
from shared.errors import DigitqError, Expired
from shared.operations.leases import Ended
from shared.prediction import Outcome
from shared.runtime import tracing
from shared.store import Store
from worker.inference.classify import Classified, Pictures
from worker.queue.foreign_jobs import ForeignJobs
from worker.queue.heartbeat import Heartbeat
from worker.queue.jobs import finish, image_id, timeout_seconds
from worker.queue.limits import OutOfTime, TimeLimit
from worker.telemetry import metrics
from worker.telemetry.job_logs import log_ended

log = logging.getLogger("digitq.worker")

Results = list[tuple[Claim, Outcome | Exception]]
#: Stores the end of a batch; the float is the seconds that the batch took.
Finisher = Callable[[Sequence[Finish], Ran, float], Ended]


class BatchClassifier:
    """Calls `classify` once for a batch; if the batch as a whole fails, once per picture, so that only one fails."""

    def __init__(
        self, classify: Callable[[Pictures], Classified], heartbeat: Heartbeat, stopping: Callable[[], bool]
    ) -> None:
        self.classify, self._heartbeat, self._stopping = classify, heartbeat, stopping

    def __call__(self, images: Pictures, timeout: int) -> Classified:
        """Return the results of the first images: of all, unless time runs out or the worker is to stop.

        The timeout is in seconds, for the batch and again for each single picture. Raises MemoryError.
        """
        if not len(images):
            return Classified([])
        self._heartbeat.extend(timeout)
        try:
            with TimeLimit(timeout, OutOfTime):
                return self.classify(images)
        except MemoryError:
            raise
        except (Exception, OutOfTime) as error:
            if len(images) == 1:
                return Classified([JobTimeoutException(str(error)) if isinstance(error, OutOfTime) else error])
        metrics.SPLITS.inc()
        log.warning("a batch of %d failed as a whole, trying each alone", len(images))
        return self._one_by_one(images, timeout)

    def _one_by_one(self, images: Pictures, timeout: int) -> Classified:
        parts: list[Classified] = []
        for image in images:
            parts.append(self([image], timeout))
            if self._stopping():
                break
        return Classified(
            [result for part in parts for result in part.results],
            sum(part.preprocess_ms for part in parts),
            sum(part.inference_ms for part in parts),
        )


@dataclass(frozen=True, slots=True)
class PictureRunner:
    """Runs a batch of pictures. `model` and `preprocessing` are the versions that are stored with each result."""

    store: Store
    worker: str
    classifier: BatchClassifier
    foreign_jobs: ForeignJobs
    model: str
    preprocessing: str

    def run(self, claims: Sequence[Claim], claimed_at: float, finisher: Finisher | None = None) -> list[Claim]:
        """Classifies a batch, stores results and errors, and lets RQ retry what failed for another reason.

        `claimed_at` is by `time.perf_counter`. Returns the claims that were not classified: there was no time for them.
        `finisher` stores the end if nothing is left to do after it; otherwise `Store.finish` does.
        """
        started = time.perf_counter()
        images = [(claim, claim.image or self._fetch_image(claim)) for claim in claims]
        present = [(claim, image) for claim, image in images if image]
        done = self.classifier([image for _, image in present], min(map(timeout_seconds, claims)))
        ended: Results = [(claim, Expired()) for claim, image in images if not image]
        ended += [(claim, result) for (claim, _), result in zip(present, done.results, strict=False)]
        if len(ended) < len(claims) or not all(isinstance(result, Outcome | DigitqError) for _, result in ended):
            finisher = None
        self._store(claims, ended, done, claimed_at, started, finisher or self._finish)
        log_ended(ended)
        for claim, result in ended:
            if not isinstance(result, Outcome | DigitqError):
                self.foreign_jobs.fail(claim, result)
        return [claim for claim, _ in present[len(done.results) :]]

    def _fetch_image(self, claim: Claim) -> bytes | None:
        """Read a picture that is not stored under its job's id: a plain RQ client may choose another."""
        id = image_id(claim)
        return self.store.image(id) if id and id != claim.id else None

    def _finish(self, finishes: Sequence[Finish], ran: Ran, seconds: float) -> Ended:
        return self.store.finish(self.worker, finishes, ran, seconds)

    def _store(
        self, claims: Sequence[Claim], ended: Results, done: Classified, claimed_at: float, started: float,
        finisher: Finisher,
    ) -> None:  # fmt: skip
        finishes = [finish(claim, result) for claim, result in ended if isinstance(result, Outcome | DigitqError)]
        classified = time.perf_counter()
        stages = round(done.preprocess_ms, 3), round(done.inference_ms, 3)
        ran = Ran(self.model, self.preprocessing, len(finishes), *stages)
        fenced, dependents = finisher(finishes, ran, round(time.perf_counter() - started, 6))
        stored = time.perf_counter()
        times = metrics.BatchTimes(claimed_at, started, classified, stored, done.preprocess_ms, done.inference_ms)
        metrics.classified([result for _, result in ended], done.preprocess_ms, done.inference_ms)
        metrics.stored([claim for claim, _ in ended], times)
        if tracing.tracer:
            from worker.telemetry import spans  # needs OpenTelemetry, which is optional

            spans.of_batch(tracing.tracer, self.worker, ended, fenced, times)
        self.foreign_jobs.follow_up(claims, fenced, dependents)
        log.debug("batch size=%d fenced=%d seconds=%.4f", len(claims), len(fenced), stored - started)
