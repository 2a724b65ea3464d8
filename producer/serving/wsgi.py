"""A WSGI application behind a server that speaks RSGI: each request on a thread of a pool.

PEP 3333; https://github.com/emmett-framework/granian/blob/master/docs/spec/RSGI.md
"""

from __future__ import annotations

import asyncio
import io
import sys
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import IO, Any

from granian.rsgi import HTTPProtocol as HTTPProtocol  # type: ignore[attr-defined]  # documented, and not exported
from granian.rsgi import ProtocolClosed as ProtocolClosed  # type: ignore[attr-defined]
from granian.rsgi import Scope as Scope

from producer.serving.streams import Headers, send_stream

Environ = dict[str, Any]
#: Under this name an environment has its Connection.
CONNECTION = "digitq.connection"
Application = Callable[[Environ, Any], Iterable[bytes]]

#: A body up to this many bytes is small.
SMALL = 256 * 1024
_ALWAYS: Environ = {
    "SCRIPT_NAME": "", "wsgi.version": (1, 0), "wsgi.errors": sys.stderr, "wsgi.multithread": True,
    "wsgi.multiprocess": True, "wsgi.run_once": False,
}  # fmt: skip
#: Header -> key, for those that most requests have, and those that WSGI names otherwise.
_KEYS = {name: f"HTTP_{name.upper().replace('-', '_')}" for name in ("host", "prefer", "user-agent", "accept")}
_KEYS |= {"content-type": "CONTENT_TYPE", "content-length": "CONTENT_LENGTH"}


def environ(scope: Scope, body: Any) -> Environ:
    """A request as WSGI has it, with the file that its body is read from."""
    server, _, port = scope.server.rpartition(":")
    found: Environ = {
        **_ALWAYS, "REQUEST_METHOD": scope.method, "PATH_INFO": scope.path.encode().decode("latin-1"),
        "QUERY_STRING": scope.query_string, "SERVER_PROTOCOL": f"HTTP/{scope.http_version}", "SERVER_NAME": server,
        "SERVER_PORT": port, "REMOTE_ADDR": scope.client.rpartition(":")[0].strip("[]"),
        "wsgi.url_scheme": scope.scheme, "wsgi.input": body,
    }  # fmt: skip
    for name, value in scope.headers.items():
        key = _KEYS.get(name) or f"HTTP_{name.upper().replace('-', '_')}"
        found[key] = f"{found[key]}{';' if name == 'cookie' else ','}{value}" if key in found else value
    # Without a length it is read to its end; with one, werkzeug finds that the client has gone before.
    if "CONTENT_LENGTH" not in found or "HTTP_TRANSFER_ENCODING" in found:
        found["wsgi.input_terminated"] = True
    if scope.authority is not None:  # `GET http://host/path`; whatever Host says then does not count (RFC 9112, 3.2.2)
        found["HTTP_HOST"] = scope.authority
    return found


def is_small(scope: Scope) -> bool:
    """Whether a request has little or no body, and says so."""
    length = scope.headers.get("content-length")
    if length is None:
        return scope.method in ("GET", "HEAD") and "transfer-encoding" not in scope.headers
    return length.isdigit() and int(length) <= SMALL


def length_of(scope: Scope) -> int | None:
    """The length of the body, as far as the request says it."""
    length = scope.headers.get("content-length")
    return int(length) if length is not None and length.isdigit() else None


class Connection:
    """The connection of a request, for a view that waits on a thread: tells that the client has gone."""

    def __init__(self, proto: HTTPProtocol, loop: AbstractEventLoop) -> None:
        self._proto, self._loop = proto, loop
        self._watching: list[Future[None]] = []
        self.gone = False

    def watch(self, leave: Callable[[], None] = lambda: None) -> None:
        """Has `leave` called once the client has gone; costs more than most waits, so that it is for the long ones."""
        self._watching.append(asyncio.run_coroutine_threadsafe(self._watch(leave), self._loop))

    async def _watch(self, leave: Callable[[], None]) -> None:
        await self._proto.client_disconnect()
        self.gone = True
        leave()

    def unwatch(self) -> None:
        """Ends it. One who went on watching would hear in place of the connection's next request."""
        for one in self._watching:
            one.cancel()


class Threads:
    """Answers up to `most` requests at a time; who comes then, waits."""

    def __init__(self, application: Application, most: int) -> None:
        self._application = application
        self.pool = ThreadPoolExecutor(most, "web")

    async def answer(self, scope: Scope, proto: HTTPProtocol, file: IO[bytes] | None = None) -> None:
        """Answers one request, with the body in a file."""
        loop = asyncio.get_running_loop()
        connection = Connection(proto, loop)
        asked = environ(scope, file or io.BytesIO())
        asked[CONNECTION] = connection
        try:
            stream = await loop.run_in_executor(self.pool, self._answer, asked, proto)
            if stream:
                await self._send(stream, scope, proto, connection)
        finally:
            connection.unwatch()

    async def _send(self, stream: Stream, scope: Scope, proto: HTTPProtocol, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        connection.watch()

        async def piece() -> bytes | None:
            # The thread that makes it is free while it is on its way.
            made = await loop.run_in_executor(self.pool, next, stream.pieces, None)
            return None if connection.gone else made

        try:
            chunked = scope.http_version not in ("1", "1.0")
            await send_stream(proto, scope.client, stream.status, stream.headers, piece, chunked)
        finally:
            await loop.run_in_executor(self.pool, stream.close)

    def _answer(self, environ: Environ, proto: HTTPProtocol) -> Stream | None:
        """Sends the answer, or returns it if it is a stream, or large."""
        head: list[tuple[int, Headers]] = []

        def start(status: str, headers: Headers, exc_info: Any = None) -> None:
            head[:] = [(int(status[:3]), [(name.lower(), value) for name, value in headers])]

        chunks = self._application(environ, start)
        close = getattr(chunks, "close", lambda: None)
        try:
            rest = filter(None, chunks)
            first = next(rest, b"")  # an application may start with its first chunk
            [(status, headers)] = head
            length = next((int(value) for name, value in headers if name == "content-length"), None)
            if first and environ["REQUEST_METHOD"] != "HEAD" and (length is None or length > SMALL):
                stream = Stream(status, headers, chain((first,), rest), close)
                close = lambda: None  # noqa: E731
                return stream
            proto.response_bytes(status, headers, b"".join((first, *rest)))
            return None
        finally:
            close()


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer whose pieces are made as they are read."""

    status: int
    headers: Headers
    pieces: Iterator[bytes]
    close: Callable[[], None]


def connection_of(environ: Environ) -> Connection | None:
    """That of a request; None behind another server."""
    return environ.get(CONNECTION)
