"""The functions that queued jobs call: `classify` for one picture, `classify_chunk` for a chunk of a batch.

Jobs name them as functions of `digitq.tasks`, which a checkout and an installed package both have. A stock RQ worker
imports and calls them, and so does BatchWorker for a picture with callbacks or dependents:
`rq worker --worker-class rq.SimpleWorker --serializer json digitq`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rq import get_current_job
from rq.job import Job

from shared.chunk_record import summary
from shared.chunk_runs import ChunkRuns
from shared.claims import Ran, note_of
from shared.errors import DigitqError, Expired, UnknownRead
from shared.prediction import Outcome
from shared.settings import Settings
from shared.store import Store
from worker.inference.classify import Classified, Classifier, Pictures
from worker.inference.numbers_classifier import NumbersClassifier
from worker.queue import chunk_runner
from worker.queue.jobs import code_and_message, read_of
from worker.queue.rq_compat import DEFAULT_RESULT_TTL
from worker.service import classifier
from worker.telemetry import metrics


def classify(id: str, read: str = "digit") -> dict[str, Any]:
    """Classifies the picture stored under `digitq:image:{id}`, and stores the prediction under the job's id.

    `read` is "digit" for one digit, or "numbers" for every number in the picture.
    Returns `Outcome.summary`. Raises the picture's error after storing it.
    """
    job, store = _current_job()
    attempt = store.start_alone(job.id)
    serving = classifier()
    done = _classified(serving, store.image(id), read)
    metrics.classified(done.results, done.preprocess_ms, done.inference_ms)
    result, stages = done.results[0], (round(done.preprocess_ms, 3), round(done.inference_ms, 3))
    ran = Ran(serving.model.version, serving.preprocessing, 1, *stages)
    if isinstance(result, Outcome):
        store.end_alone(job.id, attempt, "finished", note_of(result, ran), result.input)
        return result.summary()
    if isinstance(result, DigitqError):
        job.retries_left = job.retries_left and 0  # the picture's own error: a retry would end the same
    if not job.retries_left:
        store.end_alone(job.id, attempt, "failed", note_of(code_and_message(result), ran))
    raise result


def _classified(serving: Classifier, image: bytes | None, read: str) -> Classified:
    try:
        classify = _reader(serving, read)
    except UnknownRead as error:
        return Classified([error])
    return classify([image]) if image else Classified([Expired()])


def _reader(serving: Classifier, read: str) -> Callable[[Pictures], Classified]:
    return serving if read_of(read) == "digit" else NumbersClassifier(serving)


def classify_chunk(id: str, read: str = "digit") -> dict[str, str]:
    """Classifies a chunk of a batch, and stores its results under `digitq:results:{id}`. Returns its `summary`.

    `read` is as in `classify`.
    """
    _, store = _current_job()
    runs = ChunkRuns(store)
    attempt, serving = runs.start(id), classifier()
    model = serving.model.version
    rows = chunk_runner.classify_chunk(
        runs, id, attempt, runs.pack(id), _reader(serving, read), max_attempts=store.settings.max_attempts,
        model=model,
    )  # fmt: skip
    if rows is not None:
        runs.finish(id, attempt, rows, model=model)
    return summary(id)


def _current_job() -> tuple[Job, Store]:
    """Return the job that this process runs, and a Store on its connection."""
    job = get_current_job()
    if job is None or job.connection is None:
        raise RuntimeError("worker.tasks runs inside an RQ worker")
    settings = Settings.from_env()
    ttl = settings.result_ttl_seconds
    if job.failure_ttl is None:  # RQ's default is a year
        job.failure_ttl = ttl
    if job.result_ttl is None:
        job.result_ttl = min(DEFAULT_RESULT_TTL, ttl)
    return job, Store(job.connection, settings)
