"""A chunk of a batch, run slice by slice. Both paths share it: BatchWorker under its lease, and a stock RQ worker.

A chunk that has taken a worker down is run carefully: one picture at a time, each marked in Redis before it is tried
and noted after it, so that only the picture that kills is condemned, however many it has for neighbours.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import numpy as np
from rq.timeouts import JobTimeoutException

from shared.batches import Batches, Held, Progress, Row, Rows
from shared.chunks import Pack, unpacked
from shared.errors import DigitqError, Expired
from shared.prediction import Outcome
from worker.inference.classify import NOT_CLASSIFIED, Classified, Pictures
from worker.telemetry import metrics

log = logging.getLogger("digitq.worker")

#: Pictures between two looks at whether somebody more urgent waits.
SLICE = 64
#: Seconds of work after which results are kept: so much is done again if the worker dies.
SAVE_SECONDS = 1.0

POISON: Row = ("poison", "Every worker that took this picture died or lost it.")


class NotOurs(Exception):
    """The lease was lost, or somebody else has started the chunk since: nothing of it is ours to write."""


def run(
    batches: Batches,
    id: str,
    attempt: str,
    data: bytes,
    classify: Callable[[Pictures], Classified],
    *,
    max_attempts: int,
    held: Held | None = None,
    go_on: Callable[[], bool] = lambda: True,
) -> Rows | None:
    """Classifies what has no result yet. Returns the last results, to be written with the end; None if told to stop.

    `go_on` is called between two slices and says whether to. Raises NotOurs, and what `classify` raises.
    """
    if attempt == "0":
        return {}
    progress = batches.progress(id, attempt)
    pack, rows = _opened(data, progress, max_attempts)
    todo = [at for at in range(progress.count) if at not in progress.done and at not in rows]
    careful = attempt != "1"
    todo.sort(key=lambda at: progress.deaths.get(at, 0))  # who has killed before comes last
    saved = time.monotonic()

    def save(suspect: str = "") -> None:
        if not batches.note(id, attempt, rows, suspect, held):
            raise NotOurs
        rows.clear()

    while todo:
        step = todo[: 1 if careful else SLICE]
        if careful:
            save(suspect=str(step[0]))
        found = _slice(pack, step, classify)
        rows.update(found)
        todo = todo[len(found) :]
        if careful or time.monotonic() - saved > SAVE_SECONDS:
            save()
            saved = time.monotonic()
        if todo and not go_on():
            save()
            return None
    return rows


def _opened(data: bytes, progress: Progress, max_attempts: int) -> tuple[Pack, Rows]:
    """The pack, and what is known of its pictures before any of them is looked at."""
    every = range(progress.count)
    nothing = Pack(memoryview(b""), None, [], {})
    if not data:
        gone = Expired("The picture has expired")
        return nothing, {at: (gone.code, str(gone)) for at in every if at not in progress.done}
    if progress.stalls >= max(2, max_attempts):
        rest = {at: POISON for at in every if at not in progress.done}
        metrics.QUARANTINED.labels("poison").inc(len(rest))
        return nothing, rest
    pack = unpacked(data)
    # The death of the whole chunk came before those in this picture alone.
    poison = [at for at, deaths in progress.deaths.items() if deaths >= max(1, max_attempts - 1)]
    metrics.QUARANTINED.labels("poison").inc(len(set(poison) - progress.done))
    known: Rows = {**pack.refused, **dict.fromkeys(poison, POISON)}
    return pack, {at: row for at, row in known.items() if at not in progress.done}


def _slice(pack: Pack, step: list[int], classify: Callable[[Pictures], Classified]) -> Rows:
    """Results of the first pictures of a slice: as many as there was time for, and one at least."""
    pictures: Pictures
    if pack.shape is None:
        pictures = [pack.files[at] for at in step]
    else:
        greys = np.frombuffer(pack.body, np.uint8).reshape(-1, *pack.shape)
        pictures = greys[step]
    results = classify(pictures).results
    if not results:
        raise AssertionError("a slice without a result")
    return {at: _row(result) for at, result in zip(step, results, strict=False)}


def _row(result: Outcome | Exception) -> Row:
    if isinstance(result, Outcome):
        return result.digit, result.confidence, result.decision, result.reason, list(result.warnings)
    if isinstance(result, DigitqError):
        return result.code, str(result)
    log.error("a picture of a batch could not be classified", exc_info=result)
    return "timeout" if isinstance(result, JobTimeoutException) else "internal_error", NOT_CLASSIFIED
