"""Turns HTTP answers into errors: digitq's own by their code, those of proxies and other servers by their status."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2

from shared import VERSION, errors
from shared.errors import BodyTooSlow, DigitqError, RateLimited, ServerUnavailable, TooLarge, UnexpectedAnswer

Json = dict[str, Any]

_BY_CODE = {
    cls.code: cls
    for cls in vars(errors).values()
    if isinstance(cls, type) and issubclass(cls, DigitqError) and cls is not DigitqError
}
#: Members of a problem document that the error has as attributes.
_STANDARD = ("type", "title", "status", "detail", "code", "retry_after_seconds")
#: Answers of proxies that have a class of ours.
_PROXY: dict[int, tuple[type[DigitqError], str]] = {
    408: (BodyTooSlow, "a proxy gave up waiting for the body"),
    413: (TooLarge, "a proxy in front of digitq accepts no body of this size"),
    429: (RateLimited, "a proxy limits the rate of requests"),
    502: (ServerUnavailable, "a proxy cannot reach it"),
    503: (ServerUnavailable, "a proxy cannot reach it"),
    504: (ServerUnavailable, "a proxy timed out waiting for it"),
}
#: Answers of proxies to a request line or headers that they reject.
_PROXY_HEADERS = {
    400: "a proxy in front of digitq does not understand the request",
    414: "a proxy in front of digitq finds the address too long",
    431: "a proxy in front of digitq finds the headers too large",
}
CHECK = "Is this the URL of digitq?"
#: Texts by which httpx2 and anyio report a refused connection.
_REFUSED = ("Connection refused", "All connection attempts failed")


def error_of(response: httpx2.Response) -> DigitqError:
    """Return the error that a response stands for. An unknown code is kept on a plain DigitqError."""
    problem = json_object(response)
    code, detail = problem.get("code"), problem.get("detail")
    if isinstance(code, str) and code:
        error = _BY_CODE.get(code, DigitqError)(str(detail or f"HTTP {response.status_code}"))
        if type(error) is DigitqError:
            error.code, error.status, error.title = code, response.status_code, problem.get("title") or error.title
    else:
        error = _error_without_code(response)
    error.extensions |= {name: value for name, value in problem.items() if name not in _STANDARD}
    after = response.headers.get("Retry-After", "")
    if after.isdecimal():
        error.extensions["retry_after_seconds"] = int(after)
    return error


def _error_without_code(response: httpx2.Response) -> DigitqError:
    """Return the error for an answer that digitq did not write: it has no code."""
    status = " ".join(("HTTP", str(response.status_code), response.reason_phrase)).strip()
    if response.status_code in _PROXY:
        kind, why = _PROXY[response.status_code]
        return kind(f"{kind.title}: {why} ({status})")
    location = response.headers.get("Location")
    why = _PROXY_HEADERS.get(response.status_code, "")
    error = DigitqError(f"{status}{f' to {location}' if location else ''}{why and f': {why}'}. {CHECK}")
    error.code, error.status = f"http_{response.status_code}", response.status_code
    error.title = "Not an answer of digitq"
    return error


def unreachable(cause: httpx2.RequestError) -> ServerUnavailable:
    """Return the error for a server that does not answer, with httpx2's error as its cause."""
    refused = isinstance(cause, httpx2.ConnectError) and any(text in str(cause) for text in _REFUSED)
    reason = ". Is it running? (`make up`)" if refused else f": {str(cause) or type(cause).__name__}"
    error = ServerUnavailable(f"digitq does not answer at {_origin(cause.request.url)}{reason}")
    error.__cause__ = cause
    return error


def unexpected(response: httpx2.Response) -> UnexpectedAnswer:
    """Return the error for a successful answer that digitq cannot have written."""
    url = response.request.url
    return UnexpectedAnswer(f"digitq does not answer at {_origin(url)}{url.path}. {CHECK}")


@contextmanager
def expect_known_states() -> Iterator[None]:
    """Raise UnexpectedAnswer for a state that only a newer digitq knows: whether to wait for it cannot be known."""
    try:
        yield
    except ValueError as error:
        what = f"{error}: the server is newer than this client, {VERSION}. Update the client."
        raise UnexpectedAnswer(what) from error


def _origin(url: httpx2.URL) -> str:
    """Return scheme, host and port, without a password."""
    return f"{url.scheme}://{url.netloc.decode()}"


def json_object(response: httpx2.Response) -> Json:
    """Return the JSON object in a response, or an empty one if there is none."""
    try:
        body = json.loads(response.content) if "json" in response.headers.get("Content-Type", "") else {}
    except ValueError:  # UnicodeDecodeError too
        return {}
    return body if isinstance(body, dict) else {}


def expect_object(response: httpx2.Response, *members: str) -> Json:
    """Return the JSON object in a successful answer. Raises UnexpectedAnswer where one of `members` is missing."""
    found = json_object(response)
    if any(found.get(name) is None for name in members):
        raise unexpected(response)
    return found
