"""Log lines about jobs, with the ids by which an operator finds them."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from shared.chunk_record import batch_of
from shared.claims import Claim
from shared.prediction import Outcome

log = logging.getLogger("digitq.worker")


def job_fields(id: str) -> dict[str, str]:
    """Return the log fields of a job: the prediction that it is, or the batch that it is a chunk of."""
    batch = batch_of(id)
    return {"batch_id": batch, "job_id": id} if batch else {"prediction_id": id}


def log_ended(ended: Iterable[tuple[Claim, object]]) -> None:
    """Log one line per picture with the ids of its request: failures as INFO, successes as DEBUG."""
    for claim, result in ended:
        level = logging.DEBUG if isinstance(result, Outcome) else logging.INFO
        if log.isEnabledFor(level):
            state = "succeeded" if isinstance(result, Outcome) else "failed"
            about = {"attempt": claim.attempt, "state": state, "code": getattr(result, "code", "")}
            log.log(level, "ended", extra=job_fields(claim.id) | about | claim.asked())
