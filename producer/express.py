"""The express lane: small uploads and polls are answered on the event loop, without a thread and Flask's dispatch.

Two thirds of what such a request costs the web process is the way to its view and back, and waiting on a thread. The
lane has the views' own functions (producer/api.py) and the same checks in the same order as the application's hooks;
tests/test_express.py holds its answers equal to theirs. Whatever is not plain it leaves to them.
"""

from __future__ import annotations

import time
from asyncio import AbstractEventLoop
from collections.abc import Awaitable

from flask import Flask, Request, Response

from producer import metrics, problems, trace
from producer.access import Access
from producer.admission import clean_filename
from producer.answers import Answer, Said, conditional
from producer.api import accepted, admitted, argument, asked_wait, preferred_wait, represent
from producer.inbox import Carrier, LoopInbox
from producer.root_path import below_root
from producer.waiting import Waiters
from producer.wsgi import HTTPProtocol, ProtocolClosed, Scope, Threads, environ, is_small
from shared.errors import DigitqError
from shared.store import Store

UPLOAD = "/v1/predictions"
#: As the metrics name it.
READ = f"{UPLOAD}/<id>"


class Lanes:
    """The RSGI application of a web process: the express lane, and beside it a thread for each other request."""

    def __init__(self, app: Flask, threads: int) -> None:
        self.app = app
        self._threads = Threads(app, threads)
        self._access: Access = app.extensions["digitq_access"]
        self._waiters: Waiters = app.extensions["digitq_waiters"]
        self._store: Store = app.extensions["digitq_store"]
        self._root = self._store.settings.root_path
        self._carrier: Carrier | None = None

    def __rsgi_init__(self, loop: AbstractEventLoop) -> None:
        self._carrier = Carrier(loop, self._threads.pool)

    def close(self) -> None:
        """Ends the threads, for a process that goes on without them."""
        self._threads.pool.shutdown()

    async def __rsgi__(self, scope: Scope, proto: HTTPProtocol) -> None:
        scope = below_root(scope, self._root)
        folder, _, id = scope.path.rpartition("/")
        if scope.method == "POST" and scope.path == UPLOAD and is_small(scope):
            await self._upload(scope, proto)
        elif scope.method == "GET" and folder == UPLOAD and id and is_small(scope):
            await self._poll(scope, proto, id)
        else:
            await self._threads.answer(scope, proto)

    async def _upload(self, scope: Scope, proto: HTTPProtocol) -> None:
        try:
            body = await proto()
        except ProtocolClosed:  # the client has gone
            return
        request = Request(environ(scope, None))
        if is_form(request) or "callback_url" in request.args:
            await self._threads.answer(scope, proto, body)
        else:
            one = Visit(request, UPLOAD)
            send(proto, await one.answered(self._create(one, body)))

    async def _poll(self, scope: Scope, proto: HTTPProtocol, id: str) -> None:
        one = Visit(Request(environ(scope, None)), READ)
        send(proto, await one.answered(self._read(one, id)))

    async def _create(self, one: Visit, body: bytes) -> Said:
        owner = self._access.check(one.request)
        wait, name = preferred_wait(one.request), clean_filename(argument(one.request, "filename"))
        picture = admitted(one.request, body, name, self._store.settings, owner, one.id, one.span)
        return accepted(picture, await self._waiters.hand_in(picture, wait, self._inbox()), wait, self._root)

    async def _read(self, one: Visit, id: str) -> Said:
        owner = self._access.check(one.request)
        prediction = await self._waiters.read(id, asked_wait(one.request), owner, self._inbox())
        return _said(conditional(one.request, represent(prediction, self._root)))

    def _inbox(self) -> LoopInbox:
        assert self._carrier
        return LoopInbox(self._carrier)


class Visit:
    """A request on the lane, between what the application's hooks do before and after a view."""

    def __init__(self, request: Request, route: str) -> None:
        self.began, self.request, self.route = time.perf_counter(), request, route
        self.id = problems.request_id(request)
        self.span = trace.begin(request, route, self.id) if request.method == "POST" else None

    async def answered(self, view: Awaitable[Said]) -> Said:
        """The view's answer, or that to its error."""
        try:
            answer = await view
        except DigitqError as error:
            answer = _said(problems.from_error(error, self.request.method, self.id))
        except Exception as error:
            answer = _said(problems.from_bug(error, self.request, self.id))
        trace.end(self.span, answer.status)
        metrics.count(self.request, self.route, answer.status, self.began)
        answer.headers.update({"X-Request-ID": self.id, **problems.EVERYWHERE})
        return answer


def is_form(request: Request) -> bool:
    """Whether the body has parts."""
    return str(request.environ.get("CONTENT_TYPE", "")).lower().startswith("multipart/form-data")


def send(proto: HTTPProtocol, answer: Said) -> None:
    """Sends it whole."""
    length = [] if answer.status == 304 else [("content-length", str(len(answer.body)))]
    headers = [*((name.lower(), value) for name, value in answer.headers.items()), *length]
    proto.response_bytes(answer.status, headers, answer.body)


def _said(response: Response) -> Said:
    headers = {name: value for name, value in response.headers if name != "Content-Length"}
    careful = {} if isinstance(response, Answer) else problems.CAREFUL
    return Said(response.get_data(), response.status_code, {**careful, **headers})
