"""The web application as its server runs it, in this process: an RSGI application on a loop, and clients of it."""

from __future__ import annotations

import asyncio
import os
import select
import threading
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from queue import Queue
from typing import Any, TypeVar

from werkzeug.routing import Map
from werkzeug.test import Client

from producer.serving.adapter import Application
from producer.web.app import create_app
from producer.web.services import Services
from shared.store import Store
from tests.rsgi import Headers, Pairs, Proto, Scope, Served, served

T = TypeVar("T")
#: Seconds that a response may take to begin.
PATIENCE = 60


@dataclass
class Exchange(Proto):
    """A connection whose response is read while it is sent, and which may be closed before its end."""

    pieces_sent: Queue[bytes | None] = field(default_factory=Queue)
    begun: threading.Event = field(default_factory=threading.Event)
    closed: threading.Event = field(default_factory=threading.Event)

    def response_bytes(self, status: int, headers: Pairs, body: bytes) -> None:
        super().response_bytes(status, headers, body)
        self.pieces_sent.put(body)
        self.end()

    def end(self) -> None:
        self.pieces_sent.put(None)
        self.begun.set()

    def response_file(self, status: int, headers: Pairs, file: str) -> None:
        super().response_file(status, headers, file)
        self.begun.set()

    def _read(self, name: str) -> None:
        descriptor = os.open(name, os.O_RDONLY)
        try:
            while not self.closed.is_set():
                if select.select([descriptor], [], [], 0.02)[0]:
                    if not (piece := os.read(descriptor, 65536)):
                        break
                    self.pieces_sent.put(piece)
        finally:
            os.close(descriptor)
            self.pieces_sent.put(None)

    async def client_disconnect(self) -> None:
        while not self.closed.is_set():
            await asyncio.sleep(0.02)

    def __next__(self) -> bytes:
        if (piece := self.pieces_sent.get(timeout=PATIENCE)) is None:
            raise StopIteration
        return piece

    def __iter__(self) -> Exchange:
        return self

    def close(self) -> None:
        """The client goes away."""
        self.closed.set()
        if self.reader:
            self.reader.join()


class Bridge:
    """A WSGI application that asks the RSGI one, so that werkzeug's clients and servers can be used."""

    def __init__(self, here: Served) -> None:
        self._here = here

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        exchange = Exchange([self._body(environ)])
        running = self._here.begin_answer(self._scope(environ), exchange)
        running.add_done_callback(lambda _: exchange.begun.set())
        assert exchange.begun.wait(PATIENCE)
        if running.done():
            running.result()
        start_response(f"{exchange.status} -", [(name.title(), value) for name, value in exchange.headers])
        return exchange

    def _body(self, environ: dict[str, Any]) -> bytes:
        length = environ.get("CONTENT_LENGTH")
        return environ["wsgi.input"].read(int(length)) if length else b""  # type: ignore[no-any-return]

    def _scope(self, environ: dict[str, Any]) -> Scope:
        names = {key: key[5:].replace("_", "-") for key in environ if key.startswith("HTTP_")}
        names |= {key: key.replace("_", "-") for key in ("CONTENT_TYPE", "CONTENT_LENGTH") if environ.get(key)}
        headers = Headers([(name, environ[key]) for key, name in names.items()])
        path = environ["SCRIPT_NAME"] + environ["PATH_INFO"]
        scope = Scope(environ["REQUEST_METHOD"], path.encode("latin-1").decode(), environ["QUERY_STRING"], headers)
        scope.client = f"{environ.get('REMOTE_ADDR', '127.0.0.1')}:50000"
        scope.scheme, scope.server = environ["wsgi.url_scheme"], f"{environ['SERVER_NAME']}:{environ['SERVER_PORT']}"
        return scope


class WebClient(Client):
    """A client of the web application, through its whole stack but the HTTP parser."""

    def __init__(self, app: Application, here: Served) -> None:
        super().__init__(Bridge(here))
        self.app, self.here = app, here

    @property
    def services(self) -> Services:
        return self.app.services

    @property
    def url_map(self) -> Map:
        return self.app.flask.url_map

    def another(self) -> WebClient:
        return WebClient(self.app, self.here)

    def call(self, function: Callable[..., T], *args: Any) -> T:
        """Call a function on the application's loop."""

        async def called() -> T:
            return function(*args)

        return asyncio.run_coroutine_threadsafe(called(), self.here.loop).result(PATIENCE)


@contextmanager
def site(store: Store, **changes: Any) -> Iterator[WebClient]:
    """A client of an application with this store, and settings with these changes."""
    app = create_app(Store(store.client, replace(store.settings, **changes)))

    def made(loop: AbstractEventLoop) -> Any:
        app.__rsgi_init__(loop)
        return app.__rsgi__

    with served(made) as here:
        yield WebClient(app, here)
        WebClient(app, here).call(app.stop)
    app.close()
