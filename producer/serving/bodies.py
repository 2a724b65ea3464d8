"""Reads request bodies on the event loop: one that trickles in holds no thread, and has a time limit.

A body of up to IN_MEMORY bytes is kept in memory, as long as all of them together have MEMORY; others are in temporary
files. So many clients that send slowly take disk, of which there is a bound too, and not memory.
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
#: Bytes of a refused body that are read all the same, and seconds for the next of them: see `hear_out`.
HEARD_OUT, PATIENCE_SECONDS = 256 * 1024 * 1024, 1.0
#: Between two looks for small bodies that are late.
SWEEP_SECONDS = 1.0


class Spool:
    """What the bodies of one process take: `most` bytes in all, and how much of it is in memory."""

    def __init__(self, most: int) -> None:
        self.most, self.used, self.in_memory = most, 0, 0
        self.small = SmallBodies()

    def take(self, size: int, in_memory: int) -> tuple[int, int]:
        """Takes room for so much, of which some is to be in memory; how much it has got. Raises TooManyUploads."""
        if self.used + size > self.most:
            raise TooManyUploads(retry_after_seconds=5)
        in_memory = in_memory if self.in_memory + in_memory <= MEMORY else 0
        self.used, self.in_memory = self.used + size, self.in_memory + in_memory
        return size, in_memory

    def give(self, size: int, in_memory: int) -> None:
        """Gives it back."""
        self.used, self.in_memory = self.used - size, self.in_memory - in_memory


class SmallBodies:
    """Reads bodies that are kept in memory, with one timer for all: one for each is a twentieth of an upload's work."""

    def __init__(self) -> None:
        self._reading: dict[asyncio.Task[None], float] = {}
        self._swept = False

    async def read(self, proto: HTTPProtocol) -> bytes:
        """A whole body. Raises TimeoutError some BODY_SECONDS after it has begun, ProtocolClosed."""
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
        """Adds a piece. Raises TooManyUploads where all bodies, or the disk, are full."""
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
        """To the beginning, once all is here. Raises TooManyUploads."""
        with disk_errors():
            self.file.seek(0)

    def close(self) -> None:
        """Gives its room back."""
        self._spool.give(self._size, self._in_memory)
        self._size = self._in_memory = 0
        with suppress(OSError):  # it is flushed once more
            self.file.close()


@contextmanager
def disk_errors() -> Iterator[None]:
    """A full disk is no room for an upload."""
    try:
        yield
    except OSError as error:
        raise TooManyUploads(retry_after_seconds=5) from error


async def read_body(proto: HTTPProtocol, length: int | None, most: int, spool: Spool) -> Body:
    """The body, its file at the beginning; of a longer one than `most` so much that it is seen to be too long.

    `length` is what the request says of it. Raises BodyTooSlow, TooManyUploads, BadRequest where its chunks are
    malformed, ProtocolClosed where the client leaves.
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
                del piece  # or it stays here while the next one is waited for
                limit.reschedule(began + BODY_SECONDS + received / SLOWEST)
        if received > most:
            await hear_out(pieces)
        elif received < (length or 0):
            raise ProtocolClosed
        # granian ends each body with an empty piece, and one whose chunks are broken with another before it.
        if length is None and empty > 1:
            raise BadRequest("The chunks of the request body are malformed, or end before the last one")
        body.rewind()
    except TooManyUploads:
        body.close()
        await hear_out(pieces)
        raise
    except BaseException:
        body.close()
        raise
    return body


async def hear_out(pieces: AsyncIterator[bytes]) -> None:
    """Drops the rest of a body that is refused, while its client keeps sending.

    A client that is answered and cut off meanwhile may miss the answer, and a proxy makes 502 of it.
    """
    dropped = 0
    with suppress(StopAsyncIteration, TimeoutError, ProtocolClosed):
        async with asyncio.timeout(BODY_SECONDS):
            while dropped <= HEARD_OUT:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    dropped += len(await anext(pieces))
