"""Prometheus metrics of one worker, served under /metrics if DIGITQ_METRICS_PORT is set.

A name says what it counts: pictures, or jobs, which are single pictures and chunks of a batch. They are always
counted: that costs a microsecond or two a picture.
"""

from __future__ import annotations

import errno
import logging
from collections import Counter as Tally
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from shared import VERSION
from shared.claims import Claim
from shared.errors import DigitqError
from shared.prediction import Outcome
from shared.runtime.metrics import SECONDS, Histogram
from shared.settings import Settings

log = logging.getLogger("digitq.worker")

registry = CollectorRegistry()
#: Ports that a worker tries, so that several on one machine each have their own.
PORTS = 64
#: queue: from submission to claim; batch: to the start of its batch; preprocess, inference: of its whole batch; store:
#: until Redis has stored the result; total: the sum. A picture of a chunk has only preprocess and inference: it waits
#: with its chunk.
STAGES = Histogram(
    "digitq_picture_duration_seconds",
    "Time of a picture by stage; one of a batch upload has only preprocess and inference",
    SECONDS, registry, "stage",
)  # fmt: skip
CHUNKS = Histogram(
    "digitq_chunk_duration_seconds",
    "Time of a chunk of a batch upload, by stage: queue, from submission to claim; total, until all of it is stored",
    SECONDS, registry, "stage",
)  # fmt: skip
BATCH_SIZE = Histogram(
    "digitq_batch_size", "Pictures classified in one batch", (1, 2, 4, 8, 16, 32, 64, 128, 256), registry
)
CONFIDENCE = Histogram(
    "digitq_prediction_confidence", "Confidence of predictions", (0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999, 1),
    registry,
)  # fmt: skip
DIGITS = Counter("digitq_digits", "Digits found in pictures read as numbers", ["decision"], registry=registry)
COMPLETED = Counter("digitq_pictures_completed", "Pictures that ended on this worker", ["outcome"], registry=registry)
QUARANTINED = Counter(
    "digitq_quarantined", "Pictures that failed for good because they may harm workers", ["reason"], registry=registry
)
RETRIES = Counter(
    "digitq_retries", "Jobs that were started again after a failure or the death of a worker", registry=registry
)
LEASES = Counter("digitq_leases_expired", "Expired leases that this worker has recovered", registry=registry)
EVICTED = Counter(
    "digitq_evicted", "Ended predictions that this worker deleted to free memory in Redis", registry=registry
)
SPLITS = Counter("digitq_batch_splits", "Batches that failed as a whole and were retried one by one", registry=registry)
MODEL = Gauge("digitq_model_info", "The model in service", ["model", "preprocessing", "device"], registry=registry)
REFUSED = Gauge(
    "digitq_model_refused", "1 while the worker refuses the model in its directory and goes on with the one before",
    registry=registry,
)  # fmt: skip
Gauge("digitq_build_info", "The version that runs", ["version"], registry=registry).labels(VERSION).set(1)


@dataclass(frozen=True, slots=True)
class BatchTimes:
    """When a batch was claimed, started, classified and stored (`time.perf_counter`), and the time of two stages."""

    claimed: float
    started: float
    classified: float
    stored: float
    preprocess_ms: float
    inference_ms: float


def serving(model: str, preprocessing: str, device: str, refused: bool) -> None:
    """Show the model that the worker serves from now on, and whether it refuses a newer one."""
    MODEL.clear()
    MODEL.labels(model, preprocessing, device).set(1)
    REFUSED.set(refused)


def serve(settings: Settings) -> None:
    """Start the thread that serves /metrics on the first free port from DIGITQ_METRICS_PORT on, unless that is 0.

    Without a free port it logs so: a worker without metrics still serves.
    """
    first = settings.metrics_port
    if not first:
        return
    for port in range(first, min(first + PORTS, 65536)):
        try:
            start_http_server(port, settings.host, registry)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                log.warning("no /metrics on port %d: %s", port, error)
                return
        else:
            log.info("serves /metrics on port %d", port)
            return
    log.warning("no /metrics: port %d and the %d after it are in use", first, PORTS - 1)


def classified(results: Sequence[object], preprocess_ms: float, inference_ms: float) -> None:
    """Count a batch, or a slice of a chunk, that the model has classified."""
    STAGES.observe([preprocess_ms / 1000], "preprocess", len(results))
    STAGES.observe([inference_ms / 1000], "inference", len(results))
    BATCH_SIZE.observe([len(results)])
    outcomes = [one for one in results if isinstance(one, Outcome)]
    CONFIDENCE.observe([one.confidence for one in outcomes if one.confidence is not None])
    for page in filter(None, (one.page for one in outcomes)):
        for decision, digits in Tally(digit.decision for digit in page.digits).items():
            DIGITS.labels(decision).inc(digits)
    for outcome, pictures in Tally(map(_outcome, results)).items():
        COMPLETED.labels(outcome).inc(pictures)


def stored(claims: Sequence[Claim], times: BatchTimes) -> None:
    """Observe the stages of a batch whose results are stored."""
    queue, total = [queue_seconds(claim) for claim in claims], times.stored - times.claimed
    STAGES.observe(queue, "queue")
    STAGES.observe([times.started - times.claimed], "batch", len(claims))
    STAGES.observe([times.stored - times.classified], "store", len(claims))
    STAGES.observe([seconds + total for seconds in queue], "total")


def chunk_stored(claim: Claim, claimed: float, stored: float) -> None:
    """Observe the stages of a chunk whose results are stored; times by `time.perf_counter`."""
    queue = queue_seconds(claim)
    CHUNKS.observe([queue], "queue")
    CHUNKS.observe([queue + stored - claimed], "total")


def queue_seconds(claim: Claim) -> float:
    """Return the time from submission to claim, by Redis's clock; 0 if a time is missing."""
    if not (claim.submitted_at and claim.claimed_at):
        return 0.0
    return max(0.0, float(claim.claimed_at) - datetime.fromisoformat(claim.submitted_at).timestamp())


def _outcome(result: object) -> str:
    if isinstance(result, Outcome):
        return "succeeded"
    return "expired" if isinstance(result, DigitqError) and result.code == "expired" else "failed"
