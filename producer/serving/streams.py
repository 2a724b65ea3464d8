"""Sends streamed responses with back-pressure, and breaks off those that fail.

granian's `response_stream` buffers without a limit what the client has not read, and ends every stream as if it were
complete. A file, however, it reads only as fast as the client does. So a stream is a named pipe that granian reads as a
file: at most the pipe (64 KB) and granian's buffers are in flight. A stream that fails closes its connection: without
the last chunk the client knows that something is missing. HTTP/1.0, which nginx speaks by default, has no chunks, and
the end of the connection is the end of a complete response: there the connection is reset.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import socket
import stat
import tempfile
from array import array
from collections.abc import AsyncIterator
from contextlib import suppress
from fcntl import ioctl
from pathlib import Path
from secrets import token_hex
from termios import FIONREAD

from granian.rsgi import HTTPProtocol  # type: ignore[attr-defined]  # documented, and not exported

from producer.serving.connection import Connection
from shared.errors import DigitqError

log = logging.getLogger("digitq.web")

#: Seconds for a client to take one piece of a stream, and for the server to begin with it.
STALLED_SECONDS, BEGIN_SECONDS = 60.0, 5.0
_LOOK_SECONDS = 0.001
_LIBC = ctypes.CDLL(None)

Headers = list[tuple[str, str]]


async def send_stream(
    proto: HTTPProtocol, client: str, status: int, headers: Headers, first: bytes, rest: AsyncIterator[bytes],
    connection: Connection, chunked: bool = True,
) -> None:  # fmt: skip
    """Send pieces as fast as the client reads them; `client` is the `host:port` of its end of the connection.

    Breaks the connection off if a piece cannot be made, or is not read within STALLED_SECONDS.
    """
    with Pipe() as pipe:
        try:
            proto.response_file(status, headers, str(pipe.path))
            await pipe.write(first)
            del first  # or it stays in memory as long as the stream
            async for piece in rest:
                if connection.gone:
                    return
                await pipe.write(piece)
        except BrokenPipeError:  # the client has gone
            return
        except Exception as error:
            # Before the pipe is closed, which to the server is the end of a whole response.
            break_off(client, reset=not chunked)
            expected = isinstance(error, DigitqError | TimeoutError)
            log.warning("a response was broken off: %s", error, exc_info=None if expected else error)


class Pipe:
    """A named pipe, whose name is deleted as soon as it has a reader."""

    def __init__(self) -> None:
        self.path = Path(tempfile.gettempdir(), f"digitq-{token_hex(16)}")
        os.mkfifo(self.path, 0o600)
        # Opened for both, so that neither side blocks in `open` until the other has opened it.
        try:
            self._fd = os.open(self.path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            self.path.unlink()
            raise
        self._begun = False

    def __enter__(self) -> Pipe:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)
        self.path.unlink(missing_ok=True)

    async def write(self, data: bytes) -> None:
        """Write all of it. Raises BrokenPipeError if the client has gone, TimeoutError if it does not read."""
        rest = memoryview(data)
        async with asyncio.timeout(STALLED_SECONDS):
            while rest:
                try:
                    written = os.write(self._fd, rest)
                except BlockingIOError:
                    await self._writable()
                    continue
                rest = rest[written:]
                if not self._begun:
                    await self._read_from(written)

    async def _read_from(self, written: int) -> None:
        """Wait until the server reads; from then on a write fails with BrokenPipeError once it has stopped."""
        async with asyncio.timeout(BEGIN_SECONDS):
            while self._unread() >= written:
                await asyncio.sleep(_LOOK_SECONDS)
        alone = os.open(self.path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.close(self._fd)
        self._fd, self._begun = alone, True
        self.path.unlink()

    def _unread(self) -> int:
        size = array("i", [0])
        ioctl(self._fd, FIONREAD, size)
        return size[0]

    async def _writable(self) -> None:
        loop = asyncio.get_running_loop()
        ready = loop.create_future()
        loop.add_writer(self._fd, _done, ready)
        try:
            await ready
        finally:
            loop.remove_writer(self._fd)


def _done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def break_off(client: str, reset: bool = False) -> None:
    """Close or reset the connection whose other end is `host:port`. granian cannot, so its socket is looked up."""
    host, _, port = client.rpartition(":")
    end = (host.strip("[]"), int(port))
    for path in Path("/dev/fd").iterdir():
        with suppress(OSError):
            descriptor = os.dup(
                int(path.name)
            )  # a copy: the server may close, and the system reuse, the number meanwhile
            try:
                if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                    with socket.socket(fileno=os.dup(descriptor)) as one:
                        if one.getpeername()[:2] == end:
                            # Connecting to AF_UNSPEC resets it; where that fails it is closed at least.
                            if not reset or _LIBC.connect(one.fileno(), bytes(16), 16):
                                one.shutdown(socket.SHUT_RDWR)
                            return
            finally:
                os.close(descriptor)
