"""A TCP proxy in front of Redis that can be slow, and cut every connection."""

from __future__ import annotations

import asyncio
import threading
from asyncio import StreamReader, StreamWriter
from pathlib import Path
from ssl import SSLContext

CHUNK_BYTES = 65_536


class Proxy:
    """Listens on a free port of this machine, perhaps under TLS, and passes everything on to a Unix socket."""

    def __init__(self, target: Path, tls: SSLContext | None = None) -> None:
        self._target, self._tls = str(target), tls
        self._writers: set[StreamWriter] = set()
        #: Seconds by which everything is late, in both directions.
        self.delay = 0.0
        self.port = 0
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="proxy", daemon=True)
        self._thread.start()
        self._ready.wait(5)

    def cut(self) -> None:
        """Resets every connection that is open now."""
        self._loop.call_soon_threadsafe(self._cut)

    def close(self) -> None:
        """Ends the proxy and its thread."""
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

    def _cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_unix_connection(self._target)
        except OSError:
            writer.close()
            return
        pair = {writer, far_writer}
        self._writers |= pair
        try:
            await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
        finally:
            self._writers -= pair

    async def _pump(self, reader: StreamReader, writer: StreamWriter) -> None:
        try:
            while data := await reader.read(CHUNK_BYTES):
                if self.delay:
                    await asyncio.sleep(self.delay)
                writer.write(data)
                await writer.drain()
        except OSError:
            pass  # cut, by us or by either end
        finally:
            writer.close()
