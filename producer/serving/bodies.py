"""Reads request bodies on the event loop, with a time limit: a slow client holds no thread.

A body of up to IN_MEMORY bytes is kept in memory, as long as all bodies together take up to MEMORY; others go to
temporary files, whose total size is bounded too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from tempfile import TemporaryFile
from typing import IO, cast

from granian.rsgi import HTTPProtocol, ProtocolClosed  # type: ignore[attr-defined]  # documented, and not exported

from shared.errors import BadRequest, BodyTooSlow, TooManyUploads

#: A body of up to this many bytes is read at once, a longer one in pieces.
AT_ONCE = 16 * 1024
#: Bytes of one body, and of all, that are kept in memory.
IN_MEMORY, MEMORY = 1024 * 1024, 8 * 1024 * 1024
#: Seconds that each body has, and beyond them the slowest that it may arrive, in bytes per second.
BODY_SECONDS, SLOWEST = 30.0, 8 * 1024
#: Bytes of a refused body that are read all the same, and seconds for the next of them: see `drain`.
DRAIN_BYTES, DRAIN_SECONDS = 256 * 1024 * 1024, 1.0
#: Seconds between two checks for small bodies that are late.
SWEEP_SECONDS = 1.0


class Spool:
    """Accounts for the bodies of one process: at most `most` bytes in all, and how much of that is in memory."""

    def __init__(self, most: int) -> None:
        self.most, self.used, self.in_memory = most, 0, 0
        self.small = SmallBodies()

    def take(self, size: int, in_memory: int) -> tuple[int, int]:
        """Reserves bytes, some of them in memory, and returns how many of each were granted. Raises TooManyUploads."""
        if self.used + size > self.most:
            raise TooManyUploads(retry_after_seconds=5)
        in_memory = in_memory if self.in_memory + in_memory <= MEMORY else 0
        self.used, self.in_memory = self.used + size, self.in_memory + in_memory
        return size, in_memory

    def give(self, size: int, in_memory: int) -> None:
        """Releases reserved bytes."""
        self.used, self.in_memory = self.used - size, self.in_memory - in_memory


class SmallBodies:
    """Reads small bodies, with one timer for all: a timer for each costs a twentieth of an upload."""

    def __init__(self) -> None:
        self._reading: dict[asyncio.Task[None], float] = {}
        self._swept = False

    async def read(self, proto: HTTPProtocol) -> bytes:
        """Return a whole body. Raises TimeoutError some BODY_SECONDS after the start, ProtocolClosed."""
        task = cast("asyncio.Task[None]", asyncio.current_task())
        self._reading[task] = time.monotonic()
        if not self._swept:
            self._swept = True
            asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep)
        try:
            return await proto()
        except asyncio.CancelledError:
            if task in self._reading:
                raise
            task.uncancel()
            raise TimeoutError from None
        finally:
            self._reading.pop(task, None)

    def _sweep(self) -> None:
        late = time.monotonic() - BODY_SECONDS
        for task in [task for task, began in self._reading.items() if began < late]:
            del self._reading[task]
            task.cancel()
        self._swept = bool(self._reading)
        if self._swept:
            asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep)


class Body:
    """A request body; close it."""

    def __init__(self, spool: Spool, whole: bytes = b"") -> None:
        self.file: IO[bytes] = BytesIO(whole)
        self._spool, self._size, self._in_memory = spool, 0, 0

    def write(self, piece: bytes) -> None:
        """Add a piece. Raises TooManyUploads if the bound for all bodies, or the disk, is full."""
        memory = isinstance(self.file, BytesIO) and self._size + len(piece) <= IN_MEMORY
        taken, kept = self._spool.take(len(piece), len(piece) if memory else 0)
        self._size, self._in_memory = self._size + taken, self._in_memory + kept
        with disk_errors():
            if isinstance(self.file, BytesIO) and kept < taken:
                begun, self.file = self.file.getvalue(), TemporaryFile()  # noqa: SIM115  # closed with the body
                self.file.write(begun)
                self._spool.give(0, self._in_memory)
                self._in_memory = 0
            self.file.write(piece)

    def rewind(self) -> None:
        """Seeks to the beginning, once the whole body has arrived. Raises TooManyUploads."""
        with disk_errors():
            self.file.seek(0)

    def close(self) -> None:
        """Delete the body, and release its bytes."""
        self._spool.give(self._size, self._in_memory)
        self._size = self._in_memory = 0
        with suppress(OSError):  # it is flushed once more
            self.file.close()


@contextmanager
def disk_errors() -> Iterator[None]:
    """Turn an error of the disk, which may be full, into TooManyUploads."""
    try:
        yield
    except OSError as error:
        raise TooManyUploads(retry_after_seconds=5) from error


async def read_body(proto: HTTPProtocol, length: int | None, most: int, spool: Spool) -> Body:
    """Return the body, its file at the beginning; more than `most` bytes of it, but not all, if it is longer.

    `length` is its Content-Length. Raises BodyTooSlow, TooManyUploads, BadRequest if its chunks are malformed,
    ProtocolClosed if the client disconnects.
    """
    try:
        if length is not None and length <= AT_ONCE:
            return Body(spool, await spool.small.read(proto))
        async with asyncio.timeout(BODY_SECONDS) as limit:
            return await _spooled(proto, length, most, Body(spool), limit)
    except TimeoutError as error:
        raise BodyTooSlow(
            f"A request body has {BODY_SECONDS:g} s, and more as long as {SLOWEST} bytes arrive each second"
        ) from error


async def _spooled(proto: HTTPProtocol, length: int | None, most: int, body: Body, limit: asyncio.Timeout) -> Body:
    began, received, empty = asyncio.get_running_loop().time(), 0, 0
    pieces = proto.__aiter__()
    try:
        # Not `async for`: the server gives its iterator away once.
        with suppress(StopAsyncIteration):
            while received <= most:
                piece = await pieces.__anext__()
                body.write(piece)
                received, empty = received + len(piece), empty + (not piece)
                del piece  # frees it before the next one is awaited
                limit.reschedule(began + BODY_SECONDS + received / SLOWEST)
        if received > most:
            await drain(pieces)
        elif received < (length or 0):
            raise ProtocolClosed
        # granian ends each body with an empty piece, and one whose chunks are broken with another before it.
        if length is None and empty > 1:
            raise BadRequest("The chunks of the request body are malformed, or end before the last one")
        body.rewind()
    except TooManyUploads:
        body.close()
        await drain(pieces)
        raise
    except BaseException:
        body.close()
        raise
    return body


async def drain(pieces: AsyncIterator[bytes]) -> None:
    """Read and drop the rest of a refused body, while its client keeps sending.

    A client that is answered and disconnected meanwhile may miss the response, and a proxy turns that into a 502.
    """
    dropped = 0
    with suppress(StopAsyncIteration, TimeoutError, ProtocolClosed):
        async with asyncio.timeout(BODY_SECONDS):
            while dropped <= DRAIN_BYTES:
                async with asyncio.timeout(DRAIN_SECONDS):
                    dropped += len(await anext(pieces))
