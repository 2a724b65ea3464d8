"""A minimal HTTP/1.1 client for load generation: one keep-alive connection, one request at a time, little CPU."""

from __future__ import annotations

import asyncio
import re
from typing import NamedTuple, cast

_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)
_LOCATION = re.compile(rb"\r\nlocation: *([^\r]+)", re.IGNORECASE)


class Reply(NamedTuple):
    """An HTTP response."""

    status: int
    head: bytes
    body: bytes

    @property
    def location(self) -> str:
        """Returns path and query of the Location header; empty without one."""
        match = _LOCATION.search(self.head)
        return re.sub(r"^https?://[^/]+", "", match[1].decode()) if match else ""


class Connection(asyncio.Protocol):
    """A connection; `ask` sends a request and returns its response. Raises ConnectionError."""

    def __init__(self) -> None:
        self._buffer = b""
        self._waiter: asyncio.Future[Reply] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, rest = self._buffer.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if not separator or self._waiter is None or self._waiter.done():
            return
        if length is None:
            self._waiter.set_exception(ConnectionError("an answer without Content-Length"))
        elif len(rest) >= int(length[1]):
            self._buffer = b""
            self._waiter.set_result(Reply(int(head[9:12]), head, rest))

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._waiter and not self._waiter.done():
            self._waiter.set_exception(ConnectionError("connection lost"))

    @property
    def is_open(self) -> bool:
        return self._transport is not None

    async def ask(self, request: bytes) -> Reply:
        if self._transport is None:
            raise ConnectionError("connection lost")
        self._waiter = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._waiter

    def close(self) -> None:
        if self._transport:
            self._transport.abort()


def request(method: str, host: str, path: str, body: bytes = b"", headers: tuple[str, ...] = ()) -> bytes:
    """Return the bytes of a request."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *headers, f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
