"""A TCP proxy in front of Redis that can delay data, reset connections, or keep them open without passing data."""

from __future__ import annotations

import asyncio
import threading
from asyncio import StreamReader, StreamWriter
from pathlib import Path
from ssl import SSLContext
from typing import Any

CHUNK_BYTES = 65_536


class Proxy:
    """Forwards a free local port, optionally with TLS, to a Unix socket."""

    def __init__(self, target: Path, tls: SSLContext | None = None) -> None:
        self._target, self._tls = str(target), tls
        self._writers: set[StreamWriter] = set()
        self._serving: set[Any] = set()
        #: Delay in seconds, in both directions.
        self.delay = 0.0
        #: Whether new connections pass no data either.
        self.deafens_new = False
        self._deaf: set[StreamWriter] = set()
        self.port = 0
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="proxy", daemon=True)
        self._thread.start()
        self._ready.wait(5)

    def cut(self) -> None:
        """Reset every open connection."""
        self._loop.call_soon_threadsafe(self._cut)

    def deafen(self, new: bool = False) -> None:
        """Keep open connections open without passing data in either direction.

        With `new`, later connections too, until `hear`.
        """
        self.deafens_new = new
        self._loop.call_soon_threadsafe(lambda: self._deaf.update(self._writers))

    def hear(self) -> None:
        """Lets new connections pass data again; the old ones stay deaf, as behind a broken tunnel."""
        self.deafens_new = False

    def close(self) -> None:
        """End the proxy and its thread."""
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(5)

    async def _run(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=512, ssl=self._tls)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._over.wait()
        server.close()
        self._cut()
        if self._serving:
            await asyncio.wait(self._serving, timeout=5)

    def _cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_unix_connection(self._target)
        except OSError:
            writer.close()
            return
        pair, task = {writer, far_writer}, asyncio.current_task()
        self._writers |= pair
        self._serving.add(task)
        if self.deafens_new:
            self._deaf |= pair
        try:
            await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
        finally:
            self._writers -= pair
            self._deaf -= pair
            for one in pair:
                one.close()
            self._serving.discard(task)

    async def _pump(self, reader: StreamReader, writer: StreamWriter) -> None:
        try:
            while data := await reader.read(CHUNK_BYTES):
                if self.delay:
                    await asyncio.sleep(self.delay)
                if writer in self._deaf:
                    continue
                writer.write(data)
                await writer.drain()
        except OSError:
            pass  # closed by us or by either end
        finally:
            if writer not in self._deaf:  # the peer is not told that the other end is gone
                writer.close()
