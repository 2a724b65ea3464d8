"""Tells answers of digitq from those of something else: a proxy in front of it, or another server at its address."""

from __future__ import annotations

import json
from typing import Any

import httpx

from shared.errors import BodyTooSlow, DigitqError, RateLimited, ServerUnavailable, TooLarge, UnexpectedAnswer

Json = dict[str, Any]

#: What the usual answers of proxies mean.
_MEANT: dict[int, tuple[type[DigitqError], str]] = {
    408: (BodyTooSlow, "a proxy did not wait for it"),
    413: (TooLarge, "a proxy in front of digitq takes no body of this size"),
    429: (RateLimited, "a proxy lets no more requests through"),
    502: (ServerUnavailable, "a proxy does not reach it"),
    503: (ServerUnavailable, "a proxy does not reach it"),
    504: (ServerUnavailable, "a proxy has waited for it too long"),
}
#: Proxies refuse a head with these: they say nothing of digitq, and another picture would end alike.
_HEADS = {
    400: "a proxy in front of digitq does not understand the request",
    414: "a proxy in front of digitq finds the address too long",
    431: "a proxy in front of digitq finds the headers too large",
}
CHECK = "Is this the URL of digitq?"


def error_without_code(response: httpx.Response) -> DigitqError:
    """Returns the error for a refusal that is not digitq's: it has no code."""
    said = " ".join(("HTTP", str(response.status_code), response.reason_phrase)).strip()
    if response.status_code in _MEANT:
        kind, why = _MEANT[response.status_code]
        return kind(f"{kind.title}: {why} ({said})")
    where = response.headers.get("Location")
    why = _HEADS.get(response.status_code, "")
    error = DigitqError(f"{said}{f' to {where}' if where else ''}{why and f': {why}'}. {CHECK}")
    error.code, error.status = f"http_{response.status_code}", response.status_code
    error.title = "Not an answer of digitq"
    return error


def json_object(response: httpx.Response) -> Json:
    """Returns the JSON object in a response; an empty one where there is none."""
    try:
        body = json.loads(response.content) if "json" in response.headers.get("Content-Type", "") else {}
    except ValueError:  # UnicodeDecodeError too
        return {}
    return body if isinstance(body, dict) else {}


def expect_object(response: httpx.Response, *members: str) -> Json:
    """Returns the JSON object in a good response that must have these members. Raises UnexpectedAnswer."""
    found = json_object(response)
    if any(found.get(name) is None for name in members):
        raise unexpected(response)
    return found


def unexpected(response: httpx.Response) -> UnexpectedAnswer:
    """Returns the error for a good response that cannot be digitq's."""
    url = response.request.url
    return UnexpectedAnswer(f"digitq does not answer at {url.scheme}://{url.netloc.decode()}{url.path}. {CHECK}")
