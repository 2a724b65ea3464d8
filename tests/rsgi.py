"""A server that speaks RSGI, without the server: what it would ask, on a loop of its own."""

from __future__ import annotations

import asyncio
import threading
import time
from asyncio import AbstractEventLoop
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from granian.rsgi import ProtocolClosed  # type: ignore[attr-defined]  # documented, and not exported

Pairs = list[tuple[str, str]]
#: Any, for what is granian's and what looks like it.
Answer = Callable[[Any, Any], Awaitable[None]]


class Headers:
    """As granian hands them out: names in lower case, each as often as it was sent."""

    def __init__(self, pairs: Pairs) -> None:
        self._pairs = [(name.lower(), value) for name, value in pairs]

    def items(self) -> Pairs:
        return self._pairs

    def get(self, name: str, default: Any = None) -> Any:
        return dict(self._pairs).get(name, default)

    def __contains__(self, name: str) -> bool:
        return name in dict(self._pairs)


@dataclass
class Scope:
    method: str
    path: str
    query_string: str
    headers: Headers
    http_version: str = "1.1"
    scheme: str = "http"
    server: str = "127.0.0.1:8000"
    client: str = "127.0.0.1:50000"
    authority: str | None = None


class Pieces:
    """A body; what goes through it asks for its iterator once, or granian says that this is no way to speak."""

    def __init__(self, pieces: Iterable[bytes], stalls: bool) -> None:
        self._pieces, self._stalls = iter(pieces), stalls

    async def __anext__(self) -> bytes:
        for piece in self._pieces:
            return piece
        if self._stalls:
            await asyncio.Event().wait()
        raise StopAsyncIteration


@dataclass
class Proto:
    """The connection; its client goes away after `reads` bytes of a stream, or before the end of what it sends."""

    pieces: Iterable[bytes]
    reads: int | None = None
    gone: bool = False
    #: Seconds for which it does not read on, after the first byte of a stream.
    pauses: float = 0
    #: The end of the body never comes.
    stalls: bool = False
    status: int = 0
    headers: Pairs = field(default_factory=list)
    sent: list[bytes] = field(default_factory=list)
    #: Seconds after which the client leaves.
    leaves: float | None = None
    reader: threading.Thread | None = None

    async def __call__(self) -> bytes:
        if self.gone:
            raise ProtocolClosed
        if self.stalls:
            await asyncio.Event().wait()
        return b"".join(self.pieces)

    def __aiter__(self) -> Pieces:
        return Pieces(self.pieces, self.stalls)

    def response_bytes(self, status: int, headers: Pairs, body: bytes) -> None:
        self.status, self.headers, self.sent = status, headers, [body]

    def response_file(self, status: int, headers: Pairs, file: str) -> None:
        self.status, self.headers = status, headers
        self.reader = threading.Thread(target=self._read, args=(file,))
        self.reader.start()

    def _read(self, name: str) -> None:
        with Path(name).open("rb", buffering=0) as file:
            self.sent.append(file.read(1))
            time.sleep(self.pauses)
            while (self.reads is None or len(self.body()) < self.reads) and (piece := file.read(self.reads or 65536)):
                self.sent.append(piece)

    async def client_disconnect(self) -> None:
        await asyncio.sleep(3600 if self.leaves is None else self.leaves)

    def body(self) -> bytes:
        return b"".join(self.sent)


class Served:
    """An application on its loop."""

    def __init__(self, made: Callable[[AbstractEventLoop], Answer]) -> None:
        self.loop = asyncio.new_event_loop()
        self._answer = made(self.loop)

    async def asked(
        self, method: str, path: str, data: bytes = b"", headers: dict[str, str] | Sequence[tuple[str, str]] = (),
        query: str = "", pieces: Iterable[bytes] | None = None, client: str = "127.0.0.1:50000", **proto: Any,
    ) -> Proto:  # fmt: skip
        """The connection, after the end of the answer; a body in pieces comes without its length."""
        named = list(headers.items()) if isinstance(headers, dict) else headers
        how = [("Content-Length", str(len(data)))] if pieces is None else [("Transfer-Encoding", "chunked")]
        how = [] if "Content-Length" in dict(named) or method == "GET" else how
        one = Proto([data] if pieces is None else pieces, **proto)
        host = [] if "Host" in dict(named) else [("Host", "127.0.0.1:8000")]
        scope = Scope(method, path, query, Headers([*host, *named, *how]))
        scope.client = client
        await self._answer(scope, one)
        if one.reader:
            await asyncio.to_thread(one.reader.join)
        return one

    def begin_answer(self, scope: Scope, proto: Proto) -> Future[None]:
        """Lets the application answer a request, and does not wait."""

        async def answer() -> None:
            await self._answer(scope, proto)

        return asyncio.run_coroutine_threadsafe(answer(), self.loop)

    def begin(self, *args: Any, **named: Any) -> Future[Proto]:
        """Asks, and does not wait."""
        return asyncio.run_coroutine_threadsafe(self.asked(*args, **named), self.loop)

    def ask(self, *args: Any, **named: Any) -> Proto:
        """Asks, and waits for the end of the answer."""
        return self.begin(*args, **named).result(30)


@contextmanager
def served(made: Callable[[AbstractEventLoop], Answer]) -> Iterator[Served]:
    """Serve the application on an event loop during the block."""
    one = Served(made)
    thread = threading.Thread(target=one.loop.run_forever)
    thread.start()
    try:
        yield one
    finally:
        asyncio.run_coroutine_threadsafe(ended(), one.loop).result(30)
        one.loop.call_soon_threadsafe(one.loop.stop)
        thread.join()
        one.loop.close()


async def ended() -> None:
    """Cancel what still runs on the loop, and wait for its end."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for one in others:
        one.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()
