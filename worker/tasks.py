"""What a queued job names: `worker.tasks.classify`, one picture at a time.

A stock RQ worker imports and calls it, and so does BatchWorker for a picture with callbacks or dependents:
`rq worker --worker-class rq.SimpleWorker --serializer json digitq`.
"""

from __future__ import annotations

from typing import Any

from rq import get_current_job

from shared.claims import outcome_fields
from shared.errors import DigitqError, Expired
from shared.prediction import Outcome
from shared.settings import Settings
from shared.store import Store
from worker.classify import NOT_CLASSIFIED, Classified
from worker.service import classifier


def classify(id: str) -> dict[str, Any]:
    """Classifies the picture stored under `digitq:image:{id}`; the record is named after the job.

    Returns digit, confidence, probabilities, decision and warnings. Raises the picture's error, after recording it.
    """
    job = get_current_job()
    if job is None or job.connection is None:
        raise RuntimeError("worker.tasks.classify runs inside an RQ worker")
    store = Store(job.connection, Settings.from_env())
    store.start_record(job.id)
    image = store.image(id)
    serving = classifier()
    done = serving([image]) if image else Classified([Expired()], 0.0, 0.0)
    result = done.results[0]
    if not isinstance(result, Outcome):
        if isinstance(result, DigitqError):
            # The picture's own fault: to run it again would end the same.
            job.retries_left = job.retries_left and 0
            state = "expired" if isinstance(result, Expired) else "failed"
            store.end_record(job.id, state, error_code=result.code, error_message=str(result))
        elif not job.retries_left:
            store.end_record(job.id, "failed", error_code="internal_error", error_message=NOT_CLASSIFIED)
        raise result
    store.end_record(
        job.id, "succeeded", result.input, **outcome_fields(result), model=serving.model.version, batch_size=1,
        batch_position=0, preprocess_ms=round(done.preprocess_ms, 3), inference_ms=round(done.inference_ms, 3),
    )  # fmt: skip
    return result.summary()
