"""The express lane: small uploads and polls are answered on the event loop, without a thread and Flask's dispatch.

Two thirds of what such a request costs the web process is the way to its view and back, and waiting on a thread. The
lane has the views' own functions (producer/web/api.py) and the same checks in the same order as the application's
hooks; tests/test_express.py holds its answers equal to theirs. Whatever is not plain it leaves to them.
"""

from __future__ import annotations

import time
from asyncio import AbstractEventLoop
from collections.abc import Awaitable

from flask import Flask, Request, Response

from producer.middleware import metrics, problems, trace
from producer.middleware.access import Access
from producer.middleware.answers import Answer, Said, conditional, said
from producer.middleware.root_path import below_root
from producer.serving.bodies import HEARD_OUT, Spool, hear_out, read_body
from producer.serving.inbox import Carrier, LoopInbox
from producer.serving.waiting import Waiters
from producer.serving.wsgi import (
    SMALL,
    Connection,
    HTTPProtocol,
    ProtocolClosed,
    Scope,
    Threads,
    environ,
    is_small,
    length_of,
)
from producer.uploads.admission import clean_filename
from producer.web.api import accepted, admitted, argument, asked_wait, preferred_wait, represent
from shared.errors import BadRequest, DigitqError
from shared.store import Store

UPLOAD, BATCH, HEALTH = "/v1/predictions", "/v1/batches", "/healthz"
#: As the metrics name it.
READ = f"{UPLOAD}/<id>"
#: How many of the largest batches the temporary files of one process hold.
SPOOLED_BATCHES = 4


class Lanes:
    """The RSGI application of a web process: the express lane, and beside it a thread for each other request."""

    def __init__(self, app: Flask, threads: int) -> None:
        self.app = app
        self._access: Access = app.extensions["digitq_access"]
        self._waiters: Waiters = app.extensions["digitq_waiters"]
        self._store: Store = app.extensions["digitq_store"]
        self._root = self._store.settings.root_path
        self._carrier: Carrier | None = None
        self._largest: int = app.config["MAX_CONTENT_LENGTH"]
        limits = self._store.settings
        self._spool = Spool(SPOOLED_BATCHES * max(limits.batch_max_bytes, limits.max_upload_bytes))
        self._threads = Threads(app, threads)

    def __rsgi_init__(self, loop: AbstractEventLoop) -> None:
        self._carrier = Carrier(loop, self._threads.pool)

    def close(self) -> None:
        """Ends the threads, for a process that goes on without them."""
        self._threads.pool.shutdown()

    async def __rsgi__(self, scope: Scope, proto: HTTPProtocol) -> None:
        scope = below_root(scope, self._root)
        folder, _, id = scope.path.rpartition("/")
        if scope.method in ("POST", "PUT", "PATCH"):
            await self._with_body(scope, proto)
        elif scope.method == "GET" and folder == UPLOAD and id and is_small(scope):
            one = Visit(Request(environ(scope, None)), READ)
            send(proto, await one.answered(self._read(one, id, Connection(proto, self._loop()))))
        elif scope.method == "GET" and scope.path == HEALTH:
            one = Visit(Request(environ(scope, None)), HEALTH)
            send(proto, await one.answered(self._alive(one)))
        else:
            await self._threads.answer(scope, proto)

    async def _with_body(self, scope: Scope, proto: HTTPProtocol) -> None:
        """Reads what is uploaded, however slowly it comes; only then a view gets a thread for it."""
        request, length = Request(environ(scope, None)), length_of(scope)
        most = self._most(request, scope)
        if most < (length or 0):  # the view refuses it unread
            if "expect" not in scope.headers and (length or 0) <= HEARD_OUT:
                await hear_out(proto.__aiter__())
            await self._threads.answer(scope, proto)
            return
        try:
            body = await read_body(proto, length, most, self._spool)
        except ProtocolClosed:  # the client has gone, or sends no more and still listens
            await self._refuse(scope, proto, request, BadRequest("The body ends before its time"))
            return
        except DigitqError as error:
            await self._refuse(scope, proto, request, error)
            return
        try:
            plain = scope.method == "POST" and scope.path == UPLOAD and is_small(scope) and not is_form(request)
            if plain and "callback_url" not in request.args:
                one = Visit(request, UPLOAD)
                client = Connection(proto, self._loop())
                send(proto, await one.answered(self._create(one, body.file.read(), client)))
            else:
                await self._threads.answer(scope, proto, body.file)
        finally:
            body.close()

    async def _refuse(self, scope: Scope, proto: HTTPProtocol, request: Request, error: DigitqError) -> None:
        one = Visit(request, scope.path if scope.path in (UPLOAD, BATCH) else "none")
        answer = await one.answered(_failed(error))
        if error.status == 408 or scope.path == "/":  # the page is never kept
            answer.headers["Cache-Control"] = "no-store"
        send(proto, answer)

    def _most(self, request: Request, scope: Scope) -> int:
        """Bytes that are read of a body; -1 where the request is refused anyway."""
        if scope.path != BATCH and is_small(scope):
            return SMALL
        try:
            self._access.check(request)
        except DigitqError:
            return -1
        return self._store.settings.batch_max_bytes if scope.path == BATCH else self._largest

    async def _alive(self, one: Visit) -> Said:
        self._access.check(one.request)
        return said({"status": "ok"})

    async def _create(self, one: Visit, body: bytes, client: Connection) -> Said:
        owner = self._access.check(one.request)
        wait, name = preferred_wait(one.request), clean_filename(argument(one.request, "filename"))
        picture = admitted(one.request, body, name, self._store.settings, owner, one.id, one.span)
        found = await self._waiters.hand_in(picture, wait, self._inbox(client))
        return accepted(picture, found, wait, self._root)

    async def _read(self, one: Visit, id: str, client: Connection) -> Said:
        owner = self._access.check(one.request)
        prediction = await self._waiters.read(id, asked_wait(one.request), owner, self._inbox(client))
        return _said(conditional(one.request, represent(prediction, self._root)))

    def _inbox(self, client: Connection) -> LoopInbox:
        assert self._carrier
        return LoopInbox(self._carrier, client)

    def _loop(self) -> AbstractEventLoop:
        assert self._carrier
        return self._carrier.loop


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


async def _failed(error: DigitqError) -> Said:
    raise error


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
