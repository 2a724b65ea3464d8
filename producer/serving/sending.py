"""Sends a response: a small one whole, a large or streamed one as fast as its client reads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing

from granian.rsgi import HTTPProtocol, Scope  # type: ignore[attr-defined]  # documented, and not exported

from producer.middleware.request import Request
from producer.middleware.responses import Body, Response
from producer.serving.streams import send_stream

#: A response of up to this many bytes is sent whole.
SMALL = 256 * 1024
#: Bytes of a piece of a large one.
PIECE = 64 * 1024


async def send(response: Response, request: Request, scope: Scope, proto: HTTPProtocol) -> None:
    """Send a response, and close it."""
    body, status, length = response.body, response.status, response.length
    if isinstance(body, bytes):
        length = len(body)
    headers = [(name.lower(), value) for name, value in response.headers.items()]
    if length is not None and status not in (204, 304):
        headers.append(("content-length", str(length)))
    try:
        if request.method == "HEAD":
            proto.response_bytes(status, headers, b"")
        elif isinstance(body, bytes) and len(body) <= SMALL:
            proto.response_bytes(status, headers, body)
        else:
            async with aclosing(pieces_of(body)) as pieces:
                first = await anext(pieces, b"")
                if not first or (length is not None and length <= SMALL):
                    proto.response_bytes(status, headers, first + b"".join([piece async for piece in pieces]))
                    return
                request.connection.watch()
                chunked = scope.http_version not in ("1", "1.0")
                await send_stream(proto, scope.client, status, headers, first, pieces, request.connection, chunked)
    finally:
        request.connection.unwatch()
        response.on_close()


async def pieces_of(body: Body) -> AsyncGenerator[bytes, None]:
    """Yield a body piece by piece. A plain iterator is read on threads, one for each piece."""
    if isinstance(body, bytes):
        for start in range(0, len(body), PIECE):
            yield body[start : start + PIECE]
    elif isinstance(body, AsyncGenerator):
        async with aclosing(body):
            async for piece in body:
                yield piece
    else:
        made: Iterator[bytes | str] = body
        while (one := await asyncio.to_thread(next, made, None)) is not None:
            if one:
                yield one.encode() if isinstance(one, str) else one
