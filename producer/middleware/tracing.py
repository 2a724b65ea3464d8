"""W3C Trace Context: the span of a request that submits something, and the trace that its picture carries on.

Without an exporter (`shared/runtime/tracing.py`) no span is recorded: a `traceparent` is passed on as it came, and a
request without a valid one starts a new trace that is not sampled.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from producer.middleware.request import Request
from shared.ids import random_bytes
from shared.runtime import tracing

if TYPE_CHECKING:
    from opentelemetry.trace import Span

#: Version 00 is all there is; a later one may have more at its end (W3C Trace Context, 4.3).
_TRACEPARENT = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-[\x21-\x7e]*)?"
)
#: Longest header that is kept, in characters; version 00 has 55.
MAX_LENGTH = 128


def begin(request: Request) -> Span | None:
    """Start the span of a request that submits something; None with traces off. Polls have none."""
    if tracing.tracer is None or request.method != "POST" or not request.url_rule:
        return None
    from opentelemetry.trace import SpanKind

    about = {"http.request.method": "POST", "http.route": request.route, "url.path": request.path,
             "url.scheme": request.scheme, "digitq.request_id": request.id}  # fmt: skip
    caller = tracing.context(request.headers.get("traceparent", ""))
    return tracing.tracer.start_span(f"POST {request.route}", caller, SpanKind.SERVER, about)


def end(span: Span | None, status: int) -> None:
    """End the span of a request, if it has one."""
    if span is None:
        return
    from opentelemetry.trace import StatusCode

    span.set_attribute("http.response.status_code", status)
    if status >= 500:
        span.set_status(StatusCode.ERROR)
    span.end()


def trace_of(request: Request, id: str, queue: str) -> str:
    """The `traceparent` for the record of a picture or batch that this request submits to a queue."""
    if not tracing.tracer or request.span is None:
        return traceparent(request.environ.get("HTTP_TRACEPARENT", ""))
    from opentelemetry.trace import SpanKind, set_span_in_context

    about, within = tracing.messaging("create", queue, id), set_span_in_context(request.span)
    created = tracing.tracer.start_span(f"create {queue}", within, SpanKind.PRODUCER, about)
    created.end()
    return tracing.traceparent(created)


def traceparent(given: str) -> str:
    """The header's value if it is valid, else that of a new trace."""
    match = _TRACEPARENT.fullmatch(given) if len(given) <= MAX_LENGTH else None
    if match and not (match[1] == "00" and match[2]):
        return given
    fresh = random_bytes().hex()
    return f"00-{fresh[:32]}-{fresh[32:]}-00"
