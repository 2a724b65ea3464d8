"""The express lane: small uploads are answered on the event loop, without a thread and without Flask's dispatch.

Two thirds of what such a request costs the web process is the way to its view and back, and waiting on a thread. The
lane has the views' own functions (producer/api.py) and the same checks in the same order as the application's hooks;
tests/test_express.py holds its answers equal to theirs. Whatever is not plain it leaves to them.
"""

from __future__ import annotations

import time
from asyncio import AbstractEventLoop

from flask import Flask, Request, Response

from producer import metrics, problems, trace
from producer.access import Access
from producer.admission import clean_filename
from producer.answers import Said
from producer.api import accepted, admitted, argument, preferred_wait
from producer.inbox import Carrier, LoopInbox
from producer.waiting import Waiters
from producer.wsgi import HTTPProtocol, ProtocolClosed, Scope, Threads, environ, is_small
from shared.errors import DigitqError
from shared.store import Store

PATH = "/v1/predictions"


class Lanes:
    """The RSGI application of a web process: the express lane, and beside it a thread for each other request."""

    def __init__(self, app: Flask, threads: int) -> None:
        self.app = app
        self._threads = Threads(app, threads)
        self._access: Access = app.extensions["digitq_access"]
        self._waiters: Waiters = app.extensions["digitq_waiters"]
        self._store: Store = app.extensions["digitq_store"]
        self._carrier: Carrier | None = None

    def __rsgi_init__(self, loop: AbstractEventLoop) -> None:
        self._carrier = Carrier(loop, self._threads.pool)

    def close(self) -> None:
        """Ends the threads, for a process that goes on without them."""
        self._threads.pool.shutdown()

    async def __rsgi__(self, scope: Scope, proto: HTTPProtocol) -> None:
        if not (scope.path == PATH and scope.method == "POST" and is_small(scope)):
            return await self._threads.answer(scope, proto)
        try:
            body = await proto()
        except ProtocolClosed:  # the client has gone
            return None
        request = Request(environ(scope, None))
        if is_form(request) or "callback_url" in request.args:
            return await self._threads.answer(scope, proto, body)
        content, status, headers = await self._upload(request, body)
        sent = [(name.lower(), value) for name, value in headers.items()]
        proto.response_bytes(status, [*sent, ("content-length", str(len(content)))], content)
        return None

    async def _upload(self, request: Request, body: bytes) -> Said:
        """The application's hooks, and between them the view."""
        began, id = time.perf_counter(), problems.request_id(request)
        span = trace.begin(request, PATH, id)
        try:
            answer = await self._view(request, body, id, span)
        except DigitqError as error:
            answer = _said(problems.from_error(error, "POST", id))
        except Exception as error:
            answer = _said(problems.from_bug(error, request, id))
        trace.end(span, answer.status)
        metrics.count(request, PATH, answer.status, began)
        answer.headers.update({"X-Request-ID": id, **problems.EVERYWHERE})
        return answer

    async def _view(self, request: Request, body: bytes, id: str, span: object) -> Said:
        assert self._carrier
        owner = self._access.check(request)
        wait = preferred_wait(request)
        name = clean_filename(argument(request, "filename"))
        picture = admitted(request, body, name, self._store.settings, owner, id, span)
        return accepted(picture, await self._waiters.hand_in(picture, wait, LoopInbox(self._carrier)), wait)


def is_form(request: Request) -> bool:
    """Whether the body has parts."""
    return str(request.environ.get("CONTENT_TYPE", "")).lower().startswith("multipart/form-data")


def _said(problem: Response) -> Said:
    headers = {name: value for name, value in problem.headers if name != "Content-Length"}
    return Said(problem.get_data(), problem.status_code, {**problems.CAREFUL, **headers})
