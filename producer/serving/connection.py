"""The client's end of a request: tells when the client has disconnected."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from granian.rsgi import HTTPProtocol  # type: ignore[attr-defined]  # documented, and not exported


class Connection:
    """Watches one request's connection, on the event loop."""

    def __init__(self, proto: HTTPProtocol) -> None:
        self._proto = proto
        self._task: asyncio.Task[None] | None = None
        self.gone = False

    def watch(self, on_disconnect: Callable[[], None] = lambda: None) -> None:
        """Start to watch. It costs more than most waits take, so it is for the long ones."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._watch(on_disconnect))

    async def _watch(self, on_disconnect: Callable[[], None]) -> None:
        await self._proto.client_disconnect()
        self.gone = True
        on_disconnect()

    def unwatch(self) -> None:
        """Stop: a watcher left behind would be told in place of the connection's next request."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
