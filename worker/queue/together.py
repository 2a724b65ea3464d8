"""The fast path: claimed pictures are classified and finished together, chunks slice by slice."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from secrets import token_hex

from rq.timeouts import JobTimeoutException

from shared.batches import DEPENDENTS, Held
from shared.claims import Claim, Ran
from shared.errors import DigitqError, Expired
from shared.prediction import Outcome
from shared.runtime import tracing
from worker.inference.classify import Classified, Pictures
from worker.queue.alone import GRACE_SECONDS, RunsAlone
from worker.queue.bulk import NotOurs
from worker.queue.bulk import run as run_slices
from worker.queue.jobs import UnreadableJob, finish, image_id, is_chunk, log_ended, named, timeout_seconds
from worker.telemetry import metrics

log = logging.getLogger("digitq.worker")


class RunsTogether(RunsAlone):
    """Runs what was claimed, under the heartbeat that keeps it."""

    classify: Callable[[Pictures], Classified]
    #: When the last claims were taken.
    _taken = 0.0

    def take(self, queues: Sequence[str], limit: int) -> list[Claim]:
        """Claims up to so many jobs from the queues, in that order."""
        claims = self.store.claim(self.name, queues, limit, token_hex(6))
        self._taken = time.perf_counter()
        metrics.RETRIES.inc(sum(claim.attempt > 1 for claim in claims))
        return claims

    def run(self, claims: Sequence[Claim]) -> None:
        """Pictures of ours together, then a chunk, then the others one by one."""
        if broken := [claim for claim in claims if claim.error]:
            self._refuse(broken)
            claims = [claim for claim in claims if not claim.error]
        if not claims:
            return
        ours = [claim for claim in claims if claim.batchable and image_id(claim)]
        chunks = [claim for claim in claims if claim.chunk and is_chunk(claim)]
        known = {claim.id for claim in (*ours, *chunks)}
        others = [claim for claim in claims if claim.id not in known]
        with self.pulse.holding(claims, min(timeout_seconds(claim) for claim in claims) + GRACE_SECONDS):
            if ours:
                rest = self.run_batch(ours)
                if rest:
                    self.store.release(self.name, rest)
            for claim in chunks:
                self.run_chunk(claim)
            for claim in others:
                self.run_alone(claim)

    def _refuse(self, claims: Sequence[Claim]) -> None:
        """Fails jobs whose keys are damaged, by name."""
        for claim in claims:
            log.error("cannot be read: %s", claim.error, extra=named(claim.id))
        ended = [finish(claim, UnreadableJob(f"The job cannot be read: {claim.error}.")) for claim in claims]
        fenced, dependents = self.store.finish(self.name, ended)
        self._follow_up(claims, fenced, dependents)

    def run_batch(self, claims: Sequence[Claim]) -> Sequence[Claim]:
        """Classifies and finishes a batch: one script writes RQ's state and our records for all of them.

        Returns the claims that it did not come to.
        """
        taken, start = self._taken, time.perf_counter()
        images = [claim.image or self._image_elsewhere(claim) for claim in claims]
        gone = [(claim, Expired()) for claim, image in zip(claims, images, strict=True) if not image]
        there = [(claim, image) for claim, image in zip(claims, images, strict=True) if image]
        done = self._classify([image for _, image in there], min(timeout_seconds(claim) for claim in claims))
        ended = [*gone, *((claim, result) for (claim, _), result in zip(there, done.results, strict=False))]
        finishes = [finish(claim, result) for claim, result in ended if isinstance(result, Outcome | DigitqError)]
        computed = time.perf_counter()
        model, version = (str(self.card.get(name, "")) for name in ("version", "preprocessing"))
        ran = Ran(model, version, len(finishes), round(done.preprocess_ms, 3), round(done.inference_ms, 3))
        fenced, dependents = self.store.finish(self.name, finishes, ran, round(time.perf_counter() - start, 6))
        end = time.perf_counter()
        metrics.classified([result for _, result in ended], done.preprocess_ms, done.inference_ms)
        metrics.stored([claim for claim, _ in ended], start - taken, end - computed, end - taken)
        if tracing.tracer:
            from worker.telemetry import spans

            times = spans.Times(taken, start, computed, end, done.preprocess_ms, done.inference_ms)
            spans.of_batch(tracing.tracer, self.name, ended, fenced, times)
        self._follow_up(claims, fenced, dependents)
        log_ended(ended)
        for claim, result in ended:
            if not isinstance(result, Outcome | DigitqError):
                self._fail(claim, result)
        log.debug("batch size=%d fenced=%d seconds=%.4f", len(claims), len(fenced), time.perf_counter() - start)
        return [claim for claim, _ in there[len(done.results) :]]

    def run_chunk(self, claim: Claim) -> None:
        """A chunk of a batch, slice by slice; between two of them, whoever is more urgent is served."""
        taken, start, held = self._taken, time.perf_counter(), Held(self.name, claim)
        timeout = self.store.settings.job_timeout_seconds
        self.pulse.extend(timeout + GRACE_SECONDS)
        try:
            rows = run_slices(
                self.batches, claim.id, str(claim.attempt), claim.image, lambda images: self._slice(images, timeout),
                max_attempts=self.store.settings.max_attempts, held=held, go_on=lambda: self._let_pass(claim),
            )  # fmt: skip
        except NotOurs:
            log.warning("lease lost before the end, results dropped", extra=named(claim.id))
            return
        if rows is None:
            self.store.release(self.name, [claim])
            return
        seconds = round(time.perf_counter() - start, 6)
        ended = self.batches.finish(claim.id, str(claim.attempt), rows, held, seconds)
        self._follow_up([claim], [claim.id][ended:], [claim.id] if ended == DEPENDENTS else [])
        if tracing.tracer:
            from worker.telemetry import spans

            spans.of_chunk(tracing.tracer, self.name, claim, taken, time.perf_counter(), not ended)
        log.debug("chunk pictures=%d seconds=%.4f", len(rows), seconds, extra=named(claim.id) | claim.asked())

    def _slice(self, images: Pictures, timeout: int) -> Classified:
        """A slice of a chunk."""
        start = time.perf_counter()
        done = self._classify(images, timeout)
        self.speed.add(len(done.results), time.perf_counter() - start)
        metrics.classified(done.results, done.preprocess_ms, done.inference_ms)
        return done

    def _let_pass(self, chunk: Claim) -> bool:
        """Serves a batch from the queues before the chunk's own; False if the chunk has to wait for another worker."""
        names = self.queue_names()
        urgent = names[: names.index(chunk.queue)]
        if urgent and not self._stop_requested:
            claims = self.take(urgent, self.store.settings.batch_max_size)
            if claims:
                self.run(claims)
        self.pulse.extend(self.store.settings.job_timeout_seconds + GRACE_SECONDS)
        return not self._stop_requested

    def _classify(self, images: Pictures, timeout: int) -> Classified:
        """Within the time limit; if the batch as a whole fails, each picture alone, so that only the culprit fails."""
        if not len(images):
            return Classified([], 0.0, 0.0)
        try:
            with self.death_penalty_class(timeout, JobTimeoutException):
                return self.classify(images)
        except MemoryError:
            raise
        except Exception as error:
            if len(images) == 1:
                return Classified([error], 0.0, 0.0)
        metrics.SPLITS.inc()
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
