"""An ended batch as OpenTelemetry spans: the way of each picture from the queue to its stored end, in the trace of the
request that it came with. Made afterwards, from the times that the metrics are made from.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context

from shared.claims import Claim
from shared.prediction import Outcome
from shared.runtime import tracing


@dataclass(frozen=True, slots=True)
class Times:
    """Of a batch, by `time.perf_counter`: claimed, begun with, classified, noted by Redis; of two stages, in ms."""

    taken: float
    begun: float
    computed: float
    noted: float
    preprocess_ms: float
    inference_ms: float

    def stages(self) -> list[tuple[str, float, float]]:
        """Each with its beginning and its end."""
        decoded = self.begun + self.preprocess_ms / 1000
        read = decoded + self.inference_ms / 1000
        return [
            ("batch", self.taken, self.begun),
            ("preprocess", self.begun, decoded),
            ("inference", decoded, read),
            ("store", self.computed, self.noted),
        ]


def of_batch(
    tracer: Tracer, worker: str, ended: Sequence[tuple[Claim, object]], fenced: Collection[str], times: Times
) -> None:
    """Makes the spans of those whose request is traced; `fenced` are ids whose end was not written."""
    at = _clock()
    for claim, result in ended:
        with _processed(tracer, worker, claim, at(times.taken), at(times.noted)) as span:
            if span:
                within = set_span_in_context(span)
                for stage, begin, end in times.stages():
                    tracer.start_span(stage, within, start_time=at(begin)).end(at(end))
                span.set_attribute("digitq.batch.size", len(ended))
                _note_failure(span, "lease_lost" if claim.id in fenced else result)


def of_chunk(tracer: Tracer, worker: str, claim: Claim, taken: float, noted: float, fenced: bool) -> None:
    """Makes the spans of a chunk, whose slices have none of their own."""
    at = _clock()
    with _processed(tracer, worker, claim, at(taken), at(noted)) as span:
        if span and fenced:
            _note_failure(span, "lease_lost")


def _clock() -> Callable[[float], int]:
    """From `time.perf_counter` to Unix ns."""
    ahead = time.time() - time.perf_counter()
    return lambda clock: round((clock + ahead) * 1e9)


@contextmanager
def _processed(tracer: Tracer, worker: str, claim: Claim, begun: int, ended: int) -> Iterator[Span | None]:
    """A claim's span, in the trace of its request, and beside it that of the queue; None where it is not recorded."""
    if not claim.traceparent:
        yield None
        return
    request, about = tracing.context(claim.traceparent), tracing.messaging("process", claim.queue, claim.id)
    about |= {"messaging.client.id": worker, "digitq.attempt": claim.attempt}
    span = tracer.start_span(f"process {claim.queue}", request, SpanKind.CONSUMER, about, start_time=begun)
    if span.is_recording():
        _queued(tracer, request, claim)
    yield span if span.is_recording() else None
    span.end(ended)


def _queued(tracer: Tracer, request: Context, claim: Claim) -> None:
    """From submitted to claimed, by Redis's clock, both."""
    if claim.submitted_at and claim.claimed_at:
        submitted = datetime.fromisoformat(claim.submitted_at).timestamp()
        span = tracer.start_span("queue", request, start_time=round(submitted * 1e9))
        span.end(round(float(claim.claimed_at) * 1e9))


def _note_failure(span: Span, result: object) -> None:
    """Unless it is an outcome."""
    if not isinstance(result, Outcome):
        code = result if isinstance(result, str) else getattr(result, "code", type(result).__name__)
        span.set_attribute("error.type", code)
        span.set_status(Status(StatusCode.ERROR, code))
