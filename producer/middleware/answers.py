"""Answers in JSON, and the ones that a client may have already."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import orjson
from flask import Request, Response
from werkzeug.datastructures import Headers

#: Longest Accept header that is looked at, in characters: werkzeug's parser is quadratic. Browsers send some 150.
MAX_ACCEPT = 1000


def preferred_type(request: Request, kinds: Sequence[str]) -> str:
    """The media type that a client prefers; the first where it does not say, or says too much."""
    accept = request.environ.get("HTTP_ACCEPT", "")
    if not accept or len(accept) > MAX_ACCEPT:
        return kinds[0]
    return request.accept_mimetypes.best_match(kinds, kinds[0])


class Answer(Response):
    """A response whose headers are right as they are: werkzeug would look over each of them again."""

    def get_wsgi_headers(self, environ: Any) -> Headers:  # noqa: D102  # werkzeug documents it
        return self.headers


class Said(NamedTuple):
    """A JSON answer before it is a Response: what no view sends does without one."""

    body: bytes
    status: int
    headers: dict[str, str]


def said(body: Any, status: int = 200, **headers: str) -> Said:
    """An answer that nobody caches; what is no number in it, such as NaN, is null."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Said(orjson.dumps(body), status, {"Content-Type": "application/json", "Cache-Control": "no-store"} | named)


def answer(body: Any, status: int = 200, **headers: str) -> Response:
    """`said`, as a view answers."""
    return Answer(*said(body, status, **headers))


def conditional(request: Request, response: Response, tag: str = "") -> Response:
    """The answer under its name, from its content unless given; 304 for whoever says that it has it already."""
    tag = tag or blake2b(response.get_data(), digest_size=12).hexdigest()
    if request.if_none_match.contains_weak(tag) and not request.if_none_match.star_tag:
        kept = {name: response.headers[name] for name in ("Cache-Control", "Vary") if name in response.headers}
        response = Answer(status=304, headers=kept)
        del response.headers["Content-Type"]
    response.headers["ETag"] = f'"{tag}"'
    return response
