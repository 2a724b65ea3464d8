"""Exports OpenTelemetry traces: one for each upload, across web process, queue and worker, until its result is stored.

`OTEL_EXPORTER_OTLP_ENDPOINT` turns them on; OpenTelemetry's other variables work too. Otherwise `tracer` is None and
nothing is imported. The record of a picture carries the trace from web to worker.
"""

from __future__ import annotations

import logging
from multiprocessing.util import Finalize
from typing import TYPE_CHECKING, Any

from shared import VERSION
from shared.settings import traces_are_wanted

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer

log = logging.getLogger("digitq")

#: Makes the spans of this process; None if traces are off.
tracer: Tracer | None = None


def start(service: str) -> None:
    """Start making and exporting spans, if the environment asks for them and the packages are installed."""
    global tracer
    if not traces_are_wanted():
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as error:
        log.warning("no traces: %s; pip install digitq[otel]", error)
        return
    named = Resource.create({"service.name": service, "service.version": VERSION})
    provider = TracerProvider(resource=named.merge(OTELResourceDetector().detect()), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    # Sends the remaining spans at exit. The web process is a child of multiprocessing, which runs no `atexit`.
    Finalize(None, provider.shutdown, exitpriority=0)
    tracer = provider.get_tracer("digitq", VERSION)


def context(traceparent: str) -> Context:
    """Return the context that continues a trace from elsewhere; that of a new trace if this is none."""
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({"traceparent": traceparent})


def traceparent(span: Span) -> str:
    """Return the `traceparent` with which another process continues the trace of this span."""
    from opentelemetry.trace import set_span_in_context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier, set_span_in_context(span))
    return carrier.get("traceparent", "")


def messaging(operation: str, queue: str, id: str) -> dict[str, Any]:
    """Return attributes of a span by OpenTelemetry's conventions for messaging."""
    about = {"messaging.operation.name": operation, "messaging.operation.type": operation, "messaging.system": "rq"}
    return about | {"messaging.destination.name": queue, "messaging.message.id": id}
