"""OpenTelemetry spans of processed jobs, in the trace of the request that submitted each.

Spans are created after a batch has ended, from the times that the metrics use too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context

from shared.claims import Claim
from shared.prediction import Outcome
from shared.runtime import tracing
from worker.telemetry.metrics import BatchTimes


def of_batch(
    tracer: Tracer, worker: str, ended: Sequence[tuple[Claim, object]], fenced: Collection[str], times: BatchTimes
) -> None:
    """Create the spans of each picture whose request is traced; `fenced` are ids whose result was not stored."""
    unix_ns = _to_unix_ns()
    for claim, result in ended:
        with _process_span(tracer, worker, claim, unix_ns(times.claimed), unix_ns(times.stored)) as span:
            if span:
                parent = set_span_in_context(span)
                for stage, start, end in _stages(times):
                    tracer.start_span(stage, parent, start_time=unix_ns(start)).end(unix_ns(end))
                span.set_attribute("digitq.batch.size", len(ended))
                _set_status(span, "lease_lost" if claim.id in fenced else result)


def of_chunk(tracer: Tracer, worker: str, claim: Claim, claimed: float, stored: float, fenced: bool) -> None:
    """Create the spans of a chunk; its slices have none."""
    unix_ns = _to_unix_ns()
    with _process_span(tracer, worker, claim, unix_ns(claimed), unix_ns(stored)) as span:
        if span and fenced:
            _set_status(span, "lease_lost")


def _stages(times: BatchTimes) -> list[tuple[str, float, float]]:
    """Return name, start and end of each stage."""
    decoded = times.started + times.preprocess_ms / 1000
    return [
        ("batch", times.claimed, times.started),
        ("preprocess", times.started, decoded),
        ("inference", decoded, decoded + times.inference_ms / 1000),
        ("store", times.classified, times.stored),
    ]


def _to_unix_ns() -> Callable[[float], int]:
    """Return a function from `time.perf_counter` to Unix ns."""
    offset = time.time() - time.perf_counter()
    return lambda seconds: round((seconds + offset) * 1e9)


@contextmanager
def _process_span(tracer: Tracer, worker: str, claim: Claim, start: int, end: int) -> Iterator[Span | None]:
    """Create the span of a claim and that of its time in the queue; yields None if the trace is not recorded."""
    if not claim.traceparent:
        yield None
        return
    request, about = tracing.context(claim.traceparent), tracing.messaging("process", claim.queue, claim.id)
    about |= {"messaging.client.id": worker, "digitq.attempt": claim.attempt}
    span = tracer.start_span(f"process {claim.queue}", request, SpanKind.CONSUMER, about, start_time=start)
    if span.is_recording():
        _queue_span(tracer, request, claim)
    yield span if span.is_recording() else None
    span.end(end)


def _queue_span(tracer: Tracer, request: Context, claim: Claim) -> None:
    """Create the span from submission to claim, both by Redis's clock."""
    if claim.submitted_at and claim.claimed_at:
        submitted = datetime.fromisoformat(claim.submitted_at).timestamp()
        span = tracer.start_span("queue", request, start_time=round(submitted * 1e9))
        span.end(round(float(claim.claimed_at) * 1e9))


def _set_status(span: Span, result: object) -> None:
    if not isinstance(result, Outcome):
        code = result if isinstance(result, str) else getattr(result, "code", type(result).__name__)
        span.set_attribute("error.type", code)
        span.set_status(Status(StatusCode.ERROR, code))
