"""The adapter of the server: what of a request arrives at a view, and how responses are sent."""

from __future__ import annotations

import asyncio
import gc
import json
import signal
import socket
import threading
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import pytest

from producer.middleware.request import Request
from producer.middleware.responses import Response, json_response
from producer.serving import streams
from producer.serving.adapter import Application
from producer.serving.server import Interrupt
from producer.web.app import create_flask, create_services
from producer.web.routes import Routes
from shared.store import Store
from tests.rsgi import Proto, Served, served

#: Sizes of the pieces that were made.
made: list[int] = []
#: Set when the stream was told to end.
closed = threading.Event()
bp = Routes("test", __name__)


def numbers() -> Iterator[bytes]:
    for number in range(5):
        yield f"{number}".encode()


@bp.get("/numbers")
def stream(request: Request) -> Response:
    return Response(numbers(), headers={"X-A": "1"}, on_close=closed.set)


@bp.get("/counted")
async def counted(request: Request) -> Response:
    return Response(counting(), on_close=closed.set)


async def counting() -> AsyncGenerator[bytes, None]:
    for number in range(5):
        yield f"{number}".encode()
        await asyncio.sleep(0.001)


def sevens() -> Iterator[bytes]:
    while True:
        made.append(50_000)
        yield b"7" * made[-1]


@bp.get("/endless")
def endless(request: Request) -> Response:
    return Response(sevens(), on_close=closed.set)


@bp.get("/large")
def large(request: Request) -> Response:
    return Response(bytes(300_000))


@bp.get("/failing")
def failing(request: Request) -> Response:
    return Response(fails(), on_close=closed.set)


def fails() -> Iterator[bytes]:
    yield b"7"
    raise ZeroDivisionError


@bp.post("/sum")
def count(request: Request) -> Response:
    size, reads = 0, 0
    while piece := request.stream.read(100_000):
        size, reads = size + len(piece), reads + 1
    return json_response({"size": size, "reads": reads})


@bp.route("/echo/<path:path>", methods=["GET", "POST"])
def echo(request: Request, path: str) -> Any:
    names = ("REMOTE_ADDR", "SERVER_PORT", "HTTP_COOKIE", "HTTP_A", "CONTENT_TYPE")
    about = {name: request.environ.get(name) for name in names}
    return json_response({"path": path, "body": request.body().decode(), "query": dict(request.args), **about})


@pytest.fixture
def here(store: Store) -> Iterator[Served]:
    flask = create_flask(store.settings, keyed=False)
    flask.register_blueprint(bp)
    app = Application(flask, create_services(store))
    closed.clear()

    def begin(loop: asyncio.AbstractEventLoop) -> Any:
        app.__rsgi_init__(loop)
        return app.__rsgi__

    with served(begin) as one:
        yield one
    assert app.spool.used == 0
    app.close()


def json_of(answer: Proto) -> Any:
    return json.loads(answer.body())


def test_a_request_arrives_whole(here: Served) -> None:
    found = json_of(here.ask("POST", "/echo/ä b", b"body", {"Content-Type": "text/plain", "A": "1"}, "q=%C3%A4"))
    assert found == {
        "path": "ä b", "body": "body", "query": {"q": "ä"}, "REMOTE_ADDR": "127.0.0.1", "SERVER_PORT": "8000",
        "HTTP_COOKIE": None, "HTTP_A": "1", "CONTENT_TYPE": "text/plain",
    }  # fmt: skip


def test_an_answered_request_is_no_work_for_the_garbage_collector(here: Served) -> None:
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        assert here.ask("GET", "/healthz").status == 200
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), here.loop).result(30)  # its task has ended
        gc.collect()
        assert not [one for one in gc.garbage if isinstance(one, Request)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()


def test_a_header_that_comes_twice_is_one(here: Served) -> None:
    twice = [("Cookie", "a=1"), ("Cookie", "b=2"), ("A", "1"), ("A", "2")]
    found = json_of(here.ask("GET", "/echo/x", headers=twice))
    assert (found["HTTP_COOKIE"], found["HTTP_A"]) == ("a=1;b=2", "1,2")


def test_a_large_body_is_read_as_it_is_asked_for(here: Served) -> None:
    pieces = [bytes(150_000), bytes(150_001), b""]
    assert json_of(here.ask("POST", "/sum", pieces=pieces)) == {"size": 300_001, "reads": 4}
    assert json_of(here.ask("POST", "/sum", bytes(300_001))) == {"size": 300_001, "reads": 4}


def test_a_body_that_breaks_off_is_refused(here: Served) -> None:
    assert here.ask("POST", "/sum", pieces=[bytes(300_000)], headers={"Content-Length": "300001"}).status == 400
    assert here.ask("POST", "/sum", pieces=[bytes(300_000), b"", b""]).status == 400  # as granian tells of a broken one


def test_an_answer_with_a_length_is_sent_whole_and_a_stream_piece_by_piece(here: Served) -> None:
    whole, streamed = here.ask("GET", "/echo/x"), here.ask("GET", "/numbers")
    assert len(whole.sent) == 1 and dict(whole.headers)["content-length"] == str(len(whole.body()))
    assert streamed.body() == b"01234" and dict(streamed.headers)["x-a"] == "1"
    assert here.ask("GET", "/counted").body() == b"01234"
    assert here.ask("HEAD", "/numbers").body() == b"" and closed.is_set()


def test_a_stream_ends_when_its_client_goes(here: Served) -> None:
    answer = here.ask("GET", "/endless", reads=3)
    assert answer.body() == b"7777" and closed.is_set()


def test_of_an_unread_stream_no_more_is_made_than_fits_on_its_way_and_then_it_breaks_off(
    here: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(streams, "STALLED_SECONDS", 0.3)
    made.clear()
    answer = here.ask("GET", "/endless", reads=200_000, pauses=0.6)
    assert sum(made) <= 200_000 and len(answer.body()) < sum(made) and closed.is_set()
    assert "broken off" in caplog.text


def test_a_large_answer_is_sent_as_it_is_read_with_its_length(here: Served) -> None:
    answer = here.ask("GET", "/large")
    assert answer.body() == bytes(300_000) and dict(answer.headers)["content-length"] == "300000"
    assert answer.reader  # it came by a pipe


def test_a_stream_that_fails_breaks_off_the_connection(here: Served) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
        client.connect(listener.getsockname())
        served, _ = listener.accept()
        with served:
            host, port = client.getsockname()
            here.ask("GET", "/failing", client=f"{host}:{port}")
            client.settimeout(10)
            assert client.recv(1) == b""
    assert closed.is_set()


def test_a_client_that_goes_before_its_request_is_here_disturbs_nobody(here: Served) -> None:
    assert here.ask("POST", "/echo/x", b"body", gone=True).status == 400
    assert here.ask("GET", "/echo/x").status == 200


def test_a_signal_that_another_thread_gets_ends_the_wait_of_the_main_thread() -> None:
    told = Interrupt()
    before = signal.signal(signal.SIGUSR1, lambda *_: told.set())
    other = threading.Thread(target=told.wait, args=(30,))
    other.start()
    try:
        threading.Timer(0.1, signal.pthread_kill, (other.ident, signal.SIGUSR1)).start()
        assert told.wait()
    finally:
        other.join()
        signal.signal(signal.SIGUSR1, before)
