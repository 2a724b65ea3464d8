"""Errors as the outside gets them: RFC 9457 problem documents, never HTML, never a traceback."""

from __future__ import annotations

import json
import logging
import re
from typing import Any

from flask import Flask, Request, Response, request
from flask.globals import app_ctx, request_ctx
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from producer.middleware.answers import Answer
from producer.middleware.metrics import REJECTED
from producer.uploads.admission import too_large
from shared.errors import DigitqError
from shared.ids import new_id
from shared.settings import Settings

log = logging.getLogger("digitq.web")

#: What a browser may do with a document or a picture of ours, unless its view says otherwise.
CAREFUL = {
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
#: What every answer has.
EVERYWHERE = {"X-Content-Type-Options": "nosniff"}
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")


def problem(status: int, code: str, title: str, detail: str = "", **extensions: Any) -> Response:
    """A problem document; `retry_after_seconds` becomes a header too."""
    body = {"type": f"urn:digitq:problem:{code}", "title": title, "status": status, "detail": detail or title,
            "code": code, **extensions}  # fmt: skip
    response = Response(json.dumps(body), status, content_type="application/problem+json")
    if "retry_after_seconds" in extensions:
        response.headers["Retry-After"] = str(extensions["retry_after_seconds"])
    return response


def from_error(error: DigitqError, method: str, request_id: str) -> Response:
    """The document for one of our own errors."""
    if method == "POST":
        REJECTED.labels(error.code).inc()
        log.info("refused", extra={"code": error.code, "status": error.status, "request_id": request_id})
    response = problem(error.status, error.code, error.title, str(error), **error.extensions)
    return challenged(response) if error.status == 401 else response


def challenged(response: Response) -> Response:
    """With the header that a 401 has to have (RFC 9110, 15.5.2)."""
    response.headers["WWW-Authenticate"] = 'Bearer realm="digitq"'
    return response


def from_bug(error: Exception, request: Request, request_id: str) -> Response:
    """The document for what nobody has thought of; the log has more."""
    log.error("%s %s failed", request.method, request.path, exc_info=error, extra={"request_id": request_id})
    return problem(500, "internal_error", DigitqError.title)


def request_id(request: Request) -> str:
    """The id that a request came with; else, or where it cannot be logged, a fresh one."""
    given = request.environ.get("HTTP_X_REQUEST_ID", "")
    return given if _REQUEST_ID.fullmatch(given) else new_id()


def finished(response: Response, request_id: str) -> Response:
    """The answer with the headers that every one has."""
    response.headers.add("X-Request-ID", request_id)
    response.headers.extend(EVERYWHERE)
    if not isinstance(response, Answer):  # JSON that is not to be sniffed is nothing that a browser would run
        for name, value in CAREFUL.items():
            response.headers.setdefault(name, value)
    return response


def init_app(app: Flask, settings: Settings) -> None:
    """Every error that a view can raise, and a request id on every answer."""

    @app.errorhandler(DigitqError)
    def _ours(error: DigitqError) -> Response:
        return from_error(error, request.method, app_ctx.g.request_id)

    @app.errorhandler(RequestEntityTooLarge)
    def _too_large(_: RequestEntityTooLarge) -> Response:
        return from_error(too_large(settings), request.method, app_ctx.g.request_id)

    @app.errorhandler(HTTPException)
    def _http(error: HTTPException) -> Response:
        status = error.code or 500
        response = problem(status, error.name.lower().replace(" ", "_"), error.name, error.description or "")
        if status == 405 and (allowed := error.get_response().headers.get("Allow")):
            response.headers["Allow"] = allowed
        return response

    @app.errorhandler(Exception)
    def _bug(error: Exception) -> Response:
        return from_bug(error, request_ctx.request, app_ctx.g.request_id)

    @app.before_request
    def _request_id() -> None:
        app_ctx.g.request_id = request_id(request_ctx.request)

    @app.after_request
    def _headers(response: Response) -> Response:
        return finished(response, app_ctx.g.request_id)
