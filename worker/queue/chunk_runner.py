"""Runs chunks of batches slice by slice: `classify_chunk`, which a stock RQ worker calls too, and ChunkRunner.

A chunk during which a worker died is retried carefully: one picture at a time, each recorded in Redis before it is
tried and again after it, so that only the picture that kills workers fails, whatever else is in the chunk.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from shared import keys
from shared.batches import DEPENDENTS, Batches, Held, Progress, Row, Rows
from shared.chunks import Pack, unpacked
from shared.claims import Claim
from shared.errors import DigitqError, Expired
from shared.numbers import Read
from shared.prediction import Outcome
from shared.runtime import tracing
from shared.store import Store
from worker.inference.classify import Classified, Pictures
from worker.queue.foreign_jobs import ForeignJobs
from worker.queue.jobs import call_of, code_and_message
from worker.queue.picture_runner import BatchClassifier
from worker.telemetry import metrics
from worker.telemetry.job_logs import job_fields
from worker.telemetry.speed import Speed

log = logging.getLogger("digitq.worker")

#: Pictures of a slice: more urgent jobs run between two slices.
SLICE = 128
#: Seconds of work after which results are saved, and which are repeated at most if the worker dies.
SAVE_SECONDS = 1.0

POISON: Row = ("poison", "Every worker that took this picture died or lost it.")


class LeaseLost(Exception):
    """The lease expired, or another worker has started the chunk since: nothing may be written."""


@dataclass(frozen=True, slots=True)
class ChunkRunner:
    """Runs claimed chunks. `between_slices(claim)` may run more urgent jobs, and returns False to stop.

    `model` is the version that is stored with the results.
    """

    store: Store
    batches: Batches
    worker: str
    classifiers: Mapping[Read, BatchClassifier]
    foreign_jobs: ForeignJobs
    speed: Speed
    between_slices: Callable[[Claim], bool]
    model: str = ""

    def run(self, claim: Claim, claimed_at: float) -> None:
        """Classifies a chunk and stores its results, or releases it if it is to stop. `claimed_at`: perf_counter."""
        start, attempt, held = time.perf_counter(), str(claim.attempt), Held(self.worker, claim)
        call = call_of(claim, keys.CHUNK_FUNCTION)
        classify = partial(self._classify, self.classifiers[call.read if call else "digit"])
        try:
            rows = classify_chunk(
                self.batches, claim.id, attempt, claim.image, classify,
                max_attempts=self.store.settings.max_attempts, held=held, go_on=lambda: self.between_slices(claim),
                model=self.model,
            )  # fmt: skip
        except LeaseLost:
            log.warning("lease lost before the end, results dropped", extra=job_fields(claim.id))
            return
        if rows is None:
            self.store.release(self.worker, [claim])
            return
        seconds = round(time.perf_counter() - start, 6)
        ended = self.batches.finish(claim.id, attempt, rows, held, seconds, self.model)
        self.foreign_jobs.follow_up([claim], [claim.id][ended:], [claim.id] if ended == DEPENDENTS else [])
        end = time.perf_counter()
        metrics.chunk_stored(claim, claimed_at, end)
        if tracing.tracer:
            from worker.telemetry import spans  # needs OpenTelemetry, which is optional

            spans.of_chunk(tracing.tracer, self.worker, claim, claimed_at, end, not ended)
        log.debug("chunk pictures=%d seconds=%.4f", len(rows), end - start, extra=job_fields(claim.id) | claim.asked())

    def _classify(self, classifier: BatchClassifier, images: Pictures) -> Classified:
        start = time.perf_counter()
        done = classifier(images, self.store.settings.job_timeout_seconds)
        self.speed.add(len(done.results), time.perf_counter() - start)
        metrics.classified(done.results, done.preprocess_ms, done.inference_ms)
        return done


def classify_chunk(
    batches: Batches,
    id: str,
    attempt: str,
    data: bytes,
    classify: Callable[[Pictures], Classified],
    *,
    max_attempts: int,
    held: Held | None = None,
    go_on: Callable[[], bool] = lambda: True,
    model: str = "",
) -> Rows | None:
    """Classifies the pictures without a result. Returns the results that are not saved yet, None if stopped.

    `go_on` is called between two slices and returns whether to continue; `model` is the version of what classifies.
    Raises LeaseLost, and what `classify` raises.
    """
    if attempt == "0":
        return {}
    progress = batches.progress(id, attempt)
    pack, rows = _unpack(data, progress, max_attempts)
    todo = [at for at in range(progress.count) if at not in progress.done and at not in rows]
    todo.sort(key=lambda at: progress.deaths.get(at, 0))  # suspects last
    careful, saved = attempt != "1", time.monotonic()

    def save(suspect: str = "") -> None:
        if not batches.note(id, attempt, rows, suspect, held, model):
            raise LeaseLost
        rows.clear()

    while todo:
        step = todo[: 1 if careful else SLICE]
        if careful:
            save(suspect=str(step[0]))
        found = _classify_slice(pack, step, classify)
        rows.update(found)
        todo = todo[len(found) :]
        if careful or time.monotonic() - saved > SAVE_SECONDS:
            save()
            saved = time.monotonic()
        if todo and not go_on():
            save()
            return None
    return rows


def _unpack(data: bytes, progress: Progress, max_attempts: int) -> tuple[Pack, Rows]:
    """Return the pictures, and the results that are known without classifying: expired, refused or poison."""
    nothing = Pack(memoryview(b""), None, [], {})
    missing = [at for at in range(progress.count) if at not in progress.done]
    if not data:
        gone = Expired("The picture has expired")
        return nothing, {at: (gone.code, str(gone)) for at in missing}
    if progress.stalls >= max(2, max_attempts):
        metrics.QUARANTINED.labels("poison").inc(len(missing))
        return nothing, dict.fromkeys(missing, POISON)
    pack = unpacked(data)
    # The first death was that of the whole chunk, and is not counted for one picture.
    poison = [at for at in missing if progress.deaths.get(at, 0) >= max(1, max_attempts - 1)]
    metrics.QUARANTINED.labels("poison").inc(len(poison))
    known: Rows = {**pack.refused, **dict.fromkeys(poison, POISON)}
    return pack, {at: row for at, row in known.items() if at not in progress.done}


def _classify_slice(pack: Pack, step: list[int], classify: Callable[[Pictures], Classified]) -> Rows:
    """Return results of the first pictures of a slice: at least one, and as many as there was time for."""
    pictures: Pictures
    if pack.shape is None:
        pictures = [pack.files[at] for at in step]
    else:
        pictures = np.frombuffer(pack.body, np.uint8).reshape(-1, *pack.shape)[step]
    results = classify(pictures).results
    if not results:
        raise AssertionError("a slice without a result")
    return {at: _row(result) for at, result in zip(step, results, strict=False)}


def _row(result: Outcome | Exception) -> Row:
    if isinstance(result, Outcome):
        row = (result.digit, result.confidence, result.decision, result.reason, list(result.warnings))
        return row if result.page is None else (*row, result.page.noted())
    if not isinstance(result, DigitqError):
        log.error("a picture of a batch could not be classified", exc_info=result)
    return code_and_message(result)
