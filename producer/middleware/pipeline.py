"""The steps of every request, in order: request id, access check, endpoint, error document, metrics, headers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from producer.middleware import metrics, problems, tracing
from producer.middleware.request import Request
from producer.middleware.responses import Response, finish

#: Answers a request that may enter; what it raises becomes a problem document.
Endpoint = Callable[[Request], Awaitable[Response]]


async def handle(endpoint: Endpoint, request: Request) -> Response:
    """Answers one request. Never raises: an error is a response, too."""
    request.begin()
    request.span = tracing.begin(request)
    try:
        request.owner = request.services.access.check(request)
        response = await endpoint(request)
    except Exception as error:
        response = problems.document(error, request)
    tracing.end(request.span, response.status)
    metrics.count(request, response.status)
    return finish(response, request)
