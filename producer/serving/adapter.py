"""The application behind a server that speaks RSGI: routes a request, reads its body, and sends the response.

https://github.com/emmett-framework/granian/blob/master/docs/spec/RSGI.md
"""

from __future__ import annotations

import asyncio
import io
import sys
import time
from asyncio import AbstractEventLoop
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from flask import Flask
from granian.rsgi import HTTPProtocol, ProtocolClosed, Scope  # type: ignore[attr-defined]  # documented, not exported

from producer.middleware.pipeline import Endpoint, handle
from producer.middleware.request import Request
from producer.middleware.responses import Response, from_werkzeug
from producer.serving.bodies import DRAIN_BYTES, Spool, drain, read_body
from producer.serving.connection import Connection
from producer.serving.sending import send
from producer.uploads.admission import text_limit
from shared.errors import BadRequest

if TYPE_CHECKING:
    from producer.web.services import Services

Environ = dict[str, Any]

PREDICTIONS, BATCHES, KEY = "/v1/predictions", "/v1/batches", "/key"
#: Bytes of the form that has a key: its sender has shown none yet.
MAX_KEY_FORM = 16 * 1024
#: How many of the largest batches the temporary files of one process hold.
SPOOLED_BATCHES = 4
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
_ALWAYS: Environ = {
    "wsgi.version": (1, 0), "wsgi.errors": sys.stderr, "wsgi.multithread": True, "wsgi.multiprocess": True,
    "wsgi.run_once": False, "wsgi.input_terminated": True,
}  # fmt: skip
#: Header -> key, for those that most requests have, and those that WSGI names otherwise.
_KEYS = {name: f"HTTP_{name.upper().replace('-', '_')}" for name in ("host", "prefer", "user-agent", "accept")}
_KEYS |= {"content-type": "CONTENT_TYPE", "content-length": "CONTENT_LENGTH"}


class Application:
    """The RSGI application of a web process: Flask's views and the state that they use."""

    def __init__(self, flask: Flask, services: Services) -> None:
        self.flask, self.services = flask, services
        settings = services.settings
        self._limits = {BATCHES: settings.batch_max_bytes, KEY: MAX_KEY_FORM}
        self._limit = text_limit(settings)
        self.spool = Spool(SPOOLED_BATCHES * max(settings.batch_max_bytes, settings.max_upload_bytes))
        self._rules: dict[str, Any] = {rule.endpoint: rule for rule in flask.url_map.iter_rules()}
        self._views: dict[str, Callable[..., Any]] = dict(flask.view_functions)
        self.pool: ThreadPoolExecutor | None = None

    def __rsgi_init__(self, loop: AbstractEventLoop) -> None:
        self.pool = ThreadPoolExecutor(self.services.settings.web_threads, "web")
        loop.set_default_executor(self.pool)  # `asyncio.to_thread` uses it

    def stop(self) -> None:
        """End streams and wait, because the process is about to end. Called on the loop."""
        self.services.events.stop()
        self.services.waiting.stop()
        self.services.webhooks.stop()

    def close(self) -> None:
        """End the threads, for a process that goes on without them. Called after the loop has ended."""
        if self.pool is not None:
            self.pool.shutdown()
        self.services.waiting.close()

    async def __rsgi__(self, scope: Scope, proto: HTTPProtocol) -> None:
        environ = environ_of(scope, self.services.settings.root_path)
        hot = self._hot(scope.method, environ["PATH_INFO"])
        if hot is None:
            with self.flask.request_context(environ) as context:
                await self._answer(context.request, self._dispatch, scope, proto)  # type: ignore[arg-type]
        else:
            name, arguments = hot
            request = Request(environ, populate_request=False)  # no circle, which the collector would have to find
            request.url_rule = self._rules[name]
            await self._answer(request, partial(self._views[name], **arguments), scope, proto)

    def _hot(self, method: str, path: str) -> tuple[str, dict[str, str]] | None:
        """Routes uploads, polls and health checks, which Flask's routing and context would make a third slower."""
        if method == "POST" and path == PREDICTIONS:
            return "predictions.create", {}
        folder, _, id = path.rpartition("/")
        if method == "GET" and folder == PREDICTIONS and id:
            return "predictions.read", {"id": id}
        return ("status.healthz", {}) if method == "GET" and path == "/healthz" else None

    async def _answer(self, request: Request, endpoint: Endpoint, scope: Scope, proto: HTTPProtocol) -> None:
        request.services, request.connection = self.services, Connection(proto)
        request.max_content_length = self._limits.get(request.path, self._limit)
        body = Incoming(self.spool, proto) if scope.method in _WITH_BODY else None
        response = await handle(partial(body.before, endpoint) if body else endpoint, request)
        request.connection.unwatch()
        if body:
            await body.drop_unread(request)
        await send(response, request, scope, proto)

    async def _dispatch(self, request: Request) -> Response:
        """Call the view that Flask's routing has found: an `async` one on the loop, any other on a thread."""
        if request.routing_exception:
            raise request.routing_exception
        if request.method == "OPTIONS":
            return from_werkzeug(self.flask.make_default_options_response(), request)
        view, arguments = self._views[request.endpoint or ""], request.view_args or {}
        if asyncio.iscoroutinefunction(view):
            return cast(Response, await view(request, **arguments))
        return cast(Response, await asyncio.to_thread(view, request, **arguments))


class Incoming:
    """The body of a request that may have one: read on the loop, so that a slow client holds no thread."""

    def __init__(self, spool: Spool, proto: HTTPProtocol) -> None:
        self._spool, self._proto = spool, proto
        self._begun = False

    async def before(self, endpoint: Endpoint, request: Request) -> Response:
        """Read the body, and then call the endpoint, which refuses a body that is too long and so was not read.

        Raises BodyTooSlow, TooManyUploads, BadRequest where it is incomplete.
        """
        length, limit = request.length, request.max_content_length or 0
        if request.routing_exception or (length or 0) > limit:
            return await endpoint(request)
        self._begun = True
        try:
            body = await read_body(self._proto, length, limit, self._spool)
        except ProtocolClosed:  # the client has gone, or sends no more and still listens
            raise BadRequest("The body ends before its time") from None
        request.began = time.perf_counter()  # until now it was the client's time
        request.environ["wsgi.input"] = body.file
        try:
            return await endpoint(request)
        finally:
            body.close()

    async def drop_unread(self, request: Request) -> None:
        """Read and drop a body of a refused request, since a client that is still sending may miss the response."""
        if not self._begun and "HTTP_EXPECT" not in request.environ and (request.length or 0) <= DRAIN_BYTES:
            await drain(self._proto.__aiter__())


def environ_of(scope: Scope, root: str = "") -> Environ:
    """Return the WSGI environment (PEP 3333) of a request, its path below the root path."""
    (server, _, port), path = scope.server.rpartition(":"), without_root(scope.path, root)
    found: Environ = {
        **_ALWAYS, "REQUEST_METHOD": scope.method, "SCRIPT_NAME": root,
        "PATH_INFO": path if path.isascii() else path.encode().decode("latin-1"), "QUERY_STRING": scope.query_string,
        "SERVER_PROTOCOL": f"HTTP/{scope.http_version}", "SERVER_NAME": server, "SERVER_PORT": port,
        "REMOTE_ADDR": scope.client.rpartition(":")[0].strip("[]"), "wsgi.url_scheme": scope.scheme,
        "wsgi.input": io.BytesIO(),
    }  # fmt: skip
    for name, value in scope.headers.items():
        key = _KEYS.get(name) or f"HTTP_{name.upper().replace('-', '_')}"
        found[key] = f"{found[key]}{';' if name == 'cookie' else ','}{value}" if key in found else value
    if scope.authority is not None:  # `GET http://host/path` overrides the Host header (RFC 9112, 3.2.2)
        found["HTTP_HOST"] = scope.authority
    return found


def without_root(path: str, root: str) -> str:
    """Return the path below the root path, whether the proxy has stripped that or not."""
    inner = path.removeprefix(root)
    return inner or "/" if inner[:1] in ("", "/") else path
