"""Streamed responses with back-pressure, and a way to break one off.

granian keeps what `response_stream` is given until the client reads it, without a limit, and ends every stream as if it
were whole. A file, however, it reads only as fast as the client does. So a stream is a named pipe that granian reads as
a file: what is on its way is what the pipe (64 KB) and granian's buffers hold. A stream that fails ends with its
connection: without the last chunk the client knows that something is missing. In HTTP/1.0, which nginx speaks by
default, there are no chunks, and the end of the connection is that of a whole response: there it is reset.
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
from collections.abc import Awaitable, Callable
from contextlib import suppress
from fcntl import ioctl
from pathlib import Path
from secrets import token_hex
from termios import FIONREAD

from granian.rsgi import HTTPProtocol  # type: ignore[attr-defined]  # documented, and not exported

from shared.errors import DigitqError

log = logging.getLogger("digitq.web")

#: Seconds for a client to take one piece of a stream, and for the server to begin with it.
STALLED_SECONDS, BEGIN_SECONDS = 60.0, 5.0
_LOOK_SECONDS = 0.001
_LIBC = ctypes.CDLL(None)

Headers = list[tuple[str, str]]
#: Gives the next piece, or None at the end.
Pieces = Callable[[], Awaitable[bytes | None]]


async def send_stream(
    proto: HTTPProtocol, client: str, status: int, headers: Headers, pieces: Pieces, chunked: bool = True
) -> None:
    """Sends pieces as fast as the client reads them; `client` is the `host:port` of its end of the connection.

    Where a piece cannot be made, or is not taken within STALLED_SECONDS, the connection is broken off.
    """
    with Pipe() as pipe:
        try:
            proto.response_file(status, headers, str(pipe.path))
            while piece := await pieces():
                await pipe.write(piece)
        except BrokenPipeError:  # the client has gone
            return
        except Exception as error:
            # Before the pipe is closed, which to the server is the end of a whole response.
            break_off(client, reset=not chunked)
            expected = isinstance(error, DigitqError | TimeoutError)
            log.warning("a response was broken off: %s", error, exc_info=None if expected else error)


class Pipe:
    """A named pipe; its name is gone as soon as somebody reads from it."""

    def __init__(self) -> None:
        self.path = Path(tempfile.gettempdir(), f"digitq-{token_hex(16)}")
        os.mkfifo(self.path, 0o600)
        # With a reader and a writer of our own neither side waits for the other in `open`.
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
        """Writes all of it. Raises BrokenPipeError where the client has gone, TimeoutError where it does not read."""
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
        """Waits until the server has begun to read; from then on the pipe breaks when it stops."""
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
    """Closes or resets the connection with this other end, `host:port`: the server cannot, so it is found here."""
    host, _, port = client.rpartition(":")
    end = (host.strip("[]"), int(port))
    for path in Path("/dev/fd").iterdir():
        with suppress(OSError):
            descriptor = os.dup(int(path.name))  # ours: whatever the server closes meanwhile, this stays what it is
            try:
                if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                    with socket.socket(fileno=os.dup(descriptor)) as one:
                        if one.getpeername()[:2] == end:
                            # Connected to no address (AF_UNSPEC) it is reset; where that fails it is closed at least.
                            if not reset or _LIBC.connect(one.fileno(), bytes(16), 16):
                                one.shutdown(socket.SHUT_RDWR)
                            return
            finally:
                os.close(descriptor)
