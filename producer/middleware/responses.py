"""JSON responses, conditional responses, and the headers that every response has."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from types import MappingProxyType
from typing import Any

import orjson
from werkzeug import Response as WerkzeugResponse

from producer.middleware.request import Request

#: Longest Accept header that is parsed, in characters: werkzeug's parser is quadratic. Browsers send some 150.
MAX_ACCEPT = 1000
#: What a browser may do with a document or a picture of ours, unless its view says otherwise.
RESTRICTIONS = {
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
#: What replaces them for every response under a path of the page, errors included.
PAGE = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
}

#: The headers of a 304.
KEPT = ("Cache-Control", "Content-Security-Policy", "Vary")
#: The body of a response: all of it, or its pieces as they are made.
Body = bytes | Iterator[bytes] | Iterator[str] | AsyncGenerator[bytes, None]


@dataclass(slots=True)
class Response:
    """The response of a view. Making one of werkzeug's takes 15 us, a twentieth of an upload; this takes 1."""

    body: Body = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    #: The size of a body in pieces, if it is known.
    length: int | None = None
    #: Called when the response has been sent, or never will be.
    on_close: Callable[[], None] = lambda: None
    #: Whether a browser might render it, and so has to be told what it may do.
    restricted: bool = True


def json_response(body: Any, status: int = 200, headers: Mapping[str, str] = MappingProxyType({})) -> Response:
    """Serialize a JSON response, NaN as null, that is never cached."""
    named = {"Content-Type": "application/json", "Cache-Control": "no-store", **headers}
    return Response(orjson.dumps(body), status, named, restricted=False)


def from_werkzeug(response: WerkzeugResponse, request: Request) -> Response:
    """Convert a response that werkzeug or Flask has made: a static file, a redirect."""
    pieces, _, pairs = response.get_wsgi_response(request.environ)
    headers = {name: value for name, value in pairs if name.lower() != "content-length"}
    return Response(iter(pieces), response.status_code, headers, response.content_length, response.close)


def preferred_type(request: Request, kinds: Sequence[str]) -> str:
    """The media type that a client prefers; the first where its Accept header is missing or too long."""
    accept = request.environ.get("HTTP_ACCEPT", "")
    if not accept or len(accept) > MAX_ACCEPT:
        return kinds[0]
    return request.accept_mimetypes.best_match(kinds, kinds[0])


def wants_html(request: Request) -> bool:
    """Return True for a browser, which gets its errors as a page."""
    return preferred_type(request, ["application/json", "text/html"]) == "text/html"


def conditional(request: Request, response: Response, tag: str = "") -> Response:
    """Add an ETag, by default the hash of the body; 304 without a body if the client has that version."""
    if not tag and isinstance(response.body, bytes):
        tag = blake2b(response.body, digest_size=12).hexdigest()
    if request.if_none_match.contains_weak(tag) and not request.if_none_match.star_tag:
        response.status, response.body, response.length = 304, b"", None
        response.headers = {name: response.headers[name] for name in KEPT if name in response.headers}
    response.headers["ETag"] = f'"{tag}"'
    return response


def finish(response: Response, request: Request) -> Response:
    """Add the headers that every response has."""
    headers = response.headers
    headers["X-Request-ID"] = request.id
    headers["X-Content-Type-Options"] = "nosniff"
    if request.on_page:
        headers.update(PAGE)
    if response.restricted:
        response.headers = RESTRICTIONS | headers
    return response
