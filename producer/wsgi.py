"""A WSGI application behind a server that speaks RSGI: each request on a thread of a pool.

PEP 3333; https://github.com/emmett-framework/granian/blob/master/docs/spec/RSGI.md
"""

from __future__ import annotations

import asyncio
import io
import sys
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import chain
from typing import Any

from granian.rsgi import HTTPProtocol as HTTPProtocol  # type: ignore[attr-defined]  # documented, and not exported
from granian.rsgi import ProtocolClosed as ProtocolClosed  # type: ignore[attr-defined]
from granian.rsgi import Scope as Scope

Environ = dict[str, Any]
Application = Callable[[Environ, Any], Iterable[bytes]]

#: A body up to this many bytes is all here before it gets a thread; of a larger one the thread reads piece by piece.
IN_MEMORY = 256 * 1024
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
    return length.isdigit() and int(length) <= IN_MEMORY


class Threads:
    """Answers up to `most` requests at a time; who comes then, waits."""

    def __init__(self, application: Application, most: int) -> None:
        self._application = application
        self.pool = ThreadPoolExecutor(most, "web")

    async def answer(self, scope: Scope, proto: HTTPProtocol, body: bytes | None = None) -> None:
        """Answers one request, whose body may have been read."""
        loop = asyncio.get_running_loop()
        with suppress(ProtocolClosed):  # the client has gone
            if body is None and is_small(scope):
                body = await proto()
            file = io.BufferedReader(Body(proto, loop)) if body is None else io.BytesIO(body)
            await loop.run_in_executor(self.pool, self._answer, environ(scope, file), proto, loop)

    def _answer(self, environ: Environ, proto: HTTPProtocol, loop: AbstractEventLoop) -> None:
        head: list[tuple[int, list[tuple[str, str]]]] = []

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> None:
            head[:] = [(int(status[:3]), [(name.lower(), value) for name, value in headers])]

        chunks = self._application(environ, start)
        try:
            rest = iter(chunks)
            first = next(rest, b"")  # an application may start with its first chunk
            [(status, headers)] = head
            if environ["REQUEST_METHOD"] == "HEAD" or any(name == "content-length" for name, _ in headers):
                proto.response_bytes(status, headers, b"".join((first, *rest)))
                return
            stream = proto.response_stream(status, headers)

            async def send(chunk: bytes) -> None:
                await stream.send_bytes(chunk)

            for chunk in chain((first,), rest):
                asyncio.run_coroutine_threadsafe(send(chunk), loop).result()
        finally:
            if close := getattr(chunks, "close", None):
                close()


class Body(io.RawIOBase):
    """The body of a request as a file, for another thread than the loop's: no more of it is here than was read."""

    def __init__(self, proto: HTTPProtocol, loop: AbstractEventLoop) -> None:
        self._chunks, self._loop = proto.__aiter__(), loop
        self._chunk = memoryview(b"")

    def readable(self) -> bool:  # noqa: D102
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: D102
        if not self._chunk:
            self._chunk = memoryview(asyncio.run_coroutine_threadsafe(self._next(), self._loop).result())
        size = min(len(buffer), len(self._chunk))
        buffer[:size], self._chunk = self._chunk[:size], self._chunk[size:]
        return size

    async def _next(self) -> bytes:
        # Not `async for`: the server gives its iterator away once.
        with suppress(StopAsyncIteration):
            while True:
                if chunk := await self._chunks.__anext__():
                    return bytes(chunk)
        return b""
