"""The steps of every request, in order: request id, access check, endpoint, error document, metrics, headers.

An error becomes a problem document (RFC 9457): never HTML, never a traceback.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from producer.middleware import metrics, tracing
from producer.middleware.request import Request
from producer.middleware.responses import Response, finish, wants_html
from shared.errors import DigitqError, RedisUnavailable, TooLarge, Unauthorized

log = logging.getLogger("digitq.web")

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
        response = document(error, request)
    tracing.end(request.span, response.status)
    metrics.count(request, response.status)
    return finish(response, request)


def document(error: Exception, request: Request) -> Response:
    """The response to an error that an endpoint or the access check has raised."""
    if isinstance(error, RequestEntityTooLarge):
        error = TooLarge.upload(request.services.settings.max_upload_bytes)
    if isinstance(error, DigitqError):
        return _of_ours(error, request)
    if isinstance(error, HTTPException):
        return _of_werkzeug(error, request)
    log.error("%s %s failed", request.method, request.path, exc_info=error)
    return problem(500, "internal_error", DigitqError.title)


def problem(status: int, code: str, title: str, detail: str = "", **extensions: Any) -> Response:
    """A problem document; `retry_after_seconds` becomes the header Retry-After too."""
    body = {"type": f"urn:digitq:problem:{code}", "title": title, "status": status, "detail": detail or title,
            "code": code, **extensions}  # fmt: skip
    response = Response(json.dumps(body).encode(), status, {"Content-Type": "application/problem+json"})
    if "retry_after_seconds" in extensions:
        response.headers["Retry-After"] = str(extensions["retry_after_seconds"])
    return response


def _of_ours(error: DigitqError, request: Request) -> Response:
    if request.method == "POST":
        metrics.REJECTED.labels(error.code).inc()
        about = {"code": error.code, "status": error.status}
        if isinstance(error, RedisUnavailable):  # it refuses every upload, and is logged once a minute
            log.info("refused: %s", error, extra=about)
        else:
            log.info("refused", extra=about)
    if isinstance(error, Unauthorized):
        return _challenge(error, request)
    response = problem(error.status, error.code, error.title, str(error), **error.extensions)
    if error.status == 408:
        response.headers["Cache-Control"] = "no-store"
    return response


def _is_for_people(request: Request) -> bool:
    """True for a browser that asks for a page."""
    return wants_html(request) and not request.path.startswith("/v1/")


def _challenge(error: Unauthorized, request: Request) -> Response:
    """A 401 with the header that it must have (RFC 9110, 15.5.2); a browser on a page gets a form for the key."""
    if _is_for_people(request):
        response = request.services.key_form()
    else:
        response = problem(error.status, error.code, error.title, str(error))
    response.headers["WWW-Authenticate"] = 'Bearer realm="digitq"'
    return response


def _of_werkzeug(error: HTTPException, request: Request) -> Response:
    status = error.code or 500
    if status == 404 and _is_for_people(request):
        return request.services.error_page(404, "There is no such page", "")
    response = problem(status, error.name.lower().replace(" ", "_"), error.name, error.description or "")
    if status == 405 and (allowed := error.get_response().headers.get("Allow")):
        response.headers["Allow"] = allowed
    return response
