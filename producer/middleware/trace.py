"""Notes which request a picture came with, for the logs of web and worker: W3C Trace Context and X-Request-ID.

As long as we record no spans of our own (`shared/runtime/tracing.py`), a `traceparent` is passed on as it came; a
request without one, or with a malformed one, starts a new trace that is not sampled.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

from flask import Flask, Request, Response, g, has_request_context, request

from shared.ids import random_bytes
from shared.runtime import tracing

if TYPE_CHECKING:
    from opentelemetry.trace import Span

#: Version 00 is all there is; a later one may have more at its end (W3C Trace Context, 4.3).
_TRACEPARENT = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-[\x21-\x7e]*)?"
)
#: Of a header: a later version that is longer is not worth keeping.
MAX_LENGTH = 128


def request_id(record: logging.LogRecord) -> bool:
    """A filter of the log: what is logged while a request is answered has its id."""
    if has_request_context():
        record.request_id = g.get("request_id")
    return True


def init_app(app: Flask) -> None:
    """With traces on, a span for whatever hands something in; who polls makes none."""
    if tracing.tracer is None:
        return

    @app.before_request
    def _begin() -> None:
        if request.method == "POST" and request.url_rule:
            g.span = begin(request, request.url_rule.rule, g.request_id)

    @app.after_request
    def _end(response: Response) -> Response:
        end(g.pop("span", None), response.status_code)
        return response


def begin(request: Request, route: str, request_id: str) -> Span | None:
    """The span of a request that hands something in; None with traces off."""
    if tracing.tracer is None:
        return None
    from opentelemetry.trace import SpanKind

    about = {"http.request.method": "POST", "http.route": route, "url.path": request.path,
             "url.scheme": request.scheme, "digitq.request_id": request_id}  # fmt: skip
    caller = tracing.context(request.headers.get("traceparent", ""))
    return tracing.tracer.start_span(f"POST {route}", caller, SpanKind.SERVER, about)


def end(span: Span | None, status: int) -> None:
    """Ends the span of a request, if it has one."""
    if span is None:
        return
    from opentelemetry.trace import StatusCode

    span.set_attribute("http.response.status_code", status)
    if status >= 500:
        span.set_status(StatusCode.ERROR)
    span.end()


def trace_of(request: Request, span: Span | None, id: str, queue: str) -> str:
    """The trace that a picture of this request belongs to, for its record."""
    if not tracing.tracer or span is None:
        return traceparent(request.environ.get("HTTP_TRACEPARENT", ""))
    from opentelemetry.trace import SpanKind, set_span_in_context

    about, within = tracing.messaging("create", queue, id), set_span_in_context(span)
    created = tracing.tracer.start_span(f"create {queue}", within, SpanKind.PRODUCER, about)
    created.end()
    return tracing.traceparent(created)


def traceparent(given: str) -> str:
    """The header's value if it is well-formed, else that of a new trace."""
    match = _TRACEPARENT.fullmatch(given) if len(given) <= MAX_LENGTH else None
    if match and not (match[1] == "00" and match[2]):
        return given
    fresh = random_bytes().hex()
    return f"00-{fresh[:32]}-{fresh[32:]}-00"
