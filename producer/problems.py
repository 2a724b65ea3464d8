"""Errors as the outside gets them: RFC 9457 problem documents, never HTML, never a traceback."""

from __future__ import annotations

import json
import logging
import re
from typing import Any

from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from producer.admission import too_large
from shared.errors import DigitqError
from shared.ids import new_id
from shared.settings import Settings

log = logging.getLogger("digitq.web")

_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")


def problem(status: int, code: str, title: str, detail: str = "", **extensions: Any) -> Response:
    """A problem document; `retry_after_seconds` becomes a header too."""
    body = {"type": f"urn:digitq:problem:{code}", "title": title, "status": status, "detail": detail or title,
            "code": code, **extensions}  # fmt: skip
    response = Response(json.dumps(body), status, content_type="application/problem+json")
    if "retry_after_seconds" in extensions:
        response.headers["Retry-After"] = str(extensions["retry_after_seconds"])
    return response


def from_error(error: DigitqError) -> Response:
    """The document for one of our own errors."""
    return problem(error.status, error.code, error.title, str(error), **error.extensions)


def init_app(app: Flask, settings: Settings) -> None:
    """Every error that a view can raise, and a request id on every answer."""

    @app.errorhandler(DigitqError)
    def _ours(error: DigitqError) -> Response:
        return from_error(error)

    @app.errorhandler(RequestEntityTooLarge)
    def _too_large(_: RequestEntityTooLarge) -> Response:
        return from_error(too_large(settings))

    @app.errorhandler(HTTPException)
    def _http(error: HTTPException) -> Response:
        status = error.code or 500
        response = problem(status, error.name.lower().replace(" ", "_"), error.name, error.description or "")
        if status == 405 and (allowed := error.get_response().headers.get("Allow")):
            response.headers["Allow"] = allowed
        return response

    @app.errorhandler(Exception)
    def _bug(error: Exception) -> Response:
        log.error("%s %s request=%s failed", request.method, request.path, g.request_id, exc_info=error)
        return problem(500, "internal_error", DigitqError.title)

    @app.before_request
    def _request_id() -> None:
        given = request.headers.get("X-Request-ID", "")
        g.request_id = given if _REQUEST_ID.fullmatch(given) else new_id()

    @app.after_request
    def _headers(response: Response) -> Response:
        response.headers["X-Request-ID"] = g.request_id
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response
