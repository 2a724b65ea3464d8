"""What a queued job names: `worker.tasks.classify` for one picture, `classify_chunk` for a chunk of a batch.

A stock RQ worker imports and calls it, and so does BatchWorker for a picture with callbacks or dependents:
`rq worker --worker-class rq.SimpleWorker --serializer json digitq`.
"""

from __future__ import annotations

from typing import Any

from rq import get_current_job
from rq.defaults import DEFAULT_RESULT_TTL
from rq.job import Job

from shared.batches import Batches, summary
from shared.claims import Ran, note_of
from shared.errors import DigitqError, Expired
from shared.prediction import Outcome
from shared.settings import Settings
from shared.store import Store
from worker.inference.classify import NOT_CLASSIFIED, Classified
from worker.queue.bulk import run
from worker.service import classifier
from worker.telemetry import metrics


def classify(id: str) -> dict[str, Any]:
    """Classifies the picture stored under `digitq:image:{id}`; the prediction is named after the job.

    Returns what `Outcome.summary` has. Raises the picture's error, after noting it.
    """
    job, store = _surroundings()
    store.start_alone(job.id)
    image = store.image(id)
    serving = classifier()
    done = serving([image]) if image else Classified([Expired()], 0.0, 0.0)
    metrics.classified(done.results, done.preprocess_ms, done.inference_ms)
    result = done.results[0]
    ran = Ran(
        serving.model.version, serving.preprocessing, 1, round(done.preprocess_ms, 3), round(done.inference_ms, 3)
    )
    if isinstance(result, Outcome):
        store.end_alone(job.id, "finished", note_of(result, ran), result.input)
        return result.summary()
    if isinstance(result, DigitqError):
        # The picture's own fault: to run it again would end the same.
        job.retries_left = job.retries_left and 0
        store.end_alone(job.id, "failed", note_of((result.code, str(result)), ran))
    elif not job.retries_left:
        store.end_alone(job.id, "failed", note_of(("internal_error", NOT_CLASSIFIED), ran))
    raise result


def classify_chunk(id: str) -> dict[str, str]:
    """Classifies a chunk of a batch; the results go to its record under `digitq:results:{id}`.

    Returns what `summary` has.
    """
    _, store = _surroundings()
    batches = Batches(store)
    attempt = batches.start(id)
    rows = run(batches, id, attempt, batches.pack(id), classifier(), max_attempts=store.settings.max_attempts)
    if rows is not None:
        batches.finish(id, attempt, rows)
    return summary(id)


def _surroundings() -> tuple[Job, Store]:
    job = get_current_job()
    if job is None or job.connection is None:
        raise RuntimeError("worker.tasks runs inside an RQ worker")
    settings = Settings.from_env()
    ttl = settings.result_ttl_seconds
    if job.failure_ttl is None:  # RQ's own default is a year, and no end at all for the result
        job.failure_ttl = ttl
    if job.result_ttl is None:
        job.result_ttl = min(DEFAULT_RESULT_TTL, ttl)
    return job, Store(job.connection, settings)
