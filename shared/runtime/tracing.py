"""OpenTelemetry traces, for who asks for them: one from the upload to its stored end, across web, queue and worker.

`OTEL_EXPORTER_OTLP_ENDPOINT` turns them on; OpenTelemetry's other variables do what they say. Otherwise `tracer` is
None and nothing is imported. A picture's record carries the trace from web to worker, as it does for the log.
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

#: What makes this process's spans; None where nobody wants any.
tracer: Tracer | None = None


def start(service: str) -> None:
    """Makes and exports spans from now on, if the environment asks for them and the packages are here."""
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
    # What is left is sent at the end. The web process is a child of multiprocessing's, which runs no `atexit`.
    Finalize(None, provider.shutdown, exitpriority=0)
    tracer = provider.get_tracer("digitq", VERSION)


def context(traceparent: str) -> Context:
    """Where a trace that came from elsewhere goes on; the root of a new one if this is none."""
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({"traceparent": traceparent})


def traceparent(span: Span) -> str:
    """How a span is handed on to whoever goes on with its trace."""
    from opentelemetry.trace import set_span_in_context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier, set_span_in_context(span))
    return carrier.get("traceparent", "")


def messaging(operation: str, queue: str, id: str) -> dict[str, Any]:
    """Attributes of a span by OpenTelemetry's conventions for messaging."""
    about = {"messaging.operation.name": operation, "messaging.operation.type": operation, "messaging.system": "rq"}
    return about | {"messaging.destination.name": queue, "messaging.message.id": id}
