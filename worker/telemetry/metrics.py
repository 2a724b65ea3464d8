"""What one worker counts. Served under /metrics where DIGITQ_METRICS_PORT says so; counted anyway, for a microsecond or
two a picture.
"""

from __future__ import annotations

import logging
from collections import Counter as Tally
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from shared import VERSION
from shared.claims import Claim
from shared.errors import DigitqError
from shared.prediction import Outcome
from shared.runtime.metrics import SECONDS, Histogram
from shared.settings import Settings

log = logging.getLogger("digitq.worker")

registry = CollectorRegistry()
#: queue: until it was claimed; batch: until it was begun with; preprocess, inference: of its batch; store: until Redis
#: had noted the end; total: all of that. A picture of a chunk has only preprocess and inference, those of its slice.
STAGES = Histogram("digitq_job_duration_seconds", "Time of a picture by stage", SECONDS, registry, "stage")
BATCH_SIZE = Histogram(
    "digitq_batch_size", "Pictures that were classified together", (1, 2, 4, 8, 16, 32, 64, 128, 256), registry
)
CONFIDENCE = Histogram(
    "digitq_prediction_confidence", "Confidence of the answers", (0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999, 1),
    registry,
)  # fmt: skip
COMPLETED = Counter("digitq_jobs_completed", "Pictures that ended here", ["outcome"], registry=registry)
QUARANTINED = Counter("digitq_quarantined", "Pictures that were given up", ["reason"], registry=registry)
RETRIES = Counter("digitq_retries", "Jobs that were begun again", registry=registry)
LEASES = Counter("digitq_leases_expired", "Leases that ran out, as this worker found", registry=registry)
EVICTED = Counter(
    "digitq_evicted", "Ended predictions that this worker deleted to make room in Redis", registry=registry
)
SPLITS = Counter("digitq_batch_splits", "Batches that failed as a whole and were tried one by one", registry=registry)
MODEL = Gauge("digitq_model_info", "The model in service", ["model", "preprocessing", "device"], registry=registry)
Gauge("digitq_build_info", "The version that runs", ["version"], registry=registry).labels(VERSION).set(1)


def serve(settings: Settings, card: dict[str, Any], device: str) -> None:
    """Answers Prometheus from a thread of its own, unless the port is 0. A port that is taken is no reason to fail."""
    MODEL.labels(str(card.get("version", "")), str(card.get("preprocessing", "")), device).set(1)
    if not settings.metrics_port:
        return
    try:
        start_http_server(settings.metrics_port, settings.host, registry)
    except OSError as error:
        log.warning("no /metrics on port %d: %s", settings.metrics_port, error)


def waited(claims: Iterable[Claim]) -> list[float]:
    """Seconds from submitted to claimed, by Redis's clock; 0 where nobody has noted when it was submitted."""
    return [
        max(0.0, float(claim.claimed_at) - datetime.fromisoformat(claim.submitted_at).timestamp())
        if claim.submitted_at and claim.claimed_at
        else 0.0
        for claim in claims
    ]


def classified(results: Sequence[object], preprocess_ms: float, inference_ms: float) -> None:
    """A batch, or a slice of a chunk, has been through the model."""
    STAGES.observe([preprocess_ms / 1000], "preprocess", len(results))
    STAGES.observe([inference_ms / 1000], "inference", len(results))
    BATCH_SIZE.observe([len(results)])
    CONFIDENCE.observe([one.confidence for one in results if isinstance(one, Outcome)])
    for outcome, pictures in Tally(map(_outcome, results)).items():
        COMPLETED.labels(outcome).inc(pictures)


def stored(claims: Sequence[Claim], began: float, storing: float, noted: float) -> None:
    """A batch has ended. Seconds from its claim to when it was begun with and to when it was noted; for the noting."""
    queue = waited(claims)
    STAGES.observe(queue, "queue")
    STAGES.observe([began], "batch", len(claims))
    STAGES.observe([storing], "store", len(claims))
    STAGES.observe([seconds + noted for seconds in queue], "total")


def _outcome(result: object) -> str:
    if isinstance(result, Outcome):
        return "succeeded"
    return "expired" if isinstance(result, DigitqError) and result.code == "expired" else "failed"
