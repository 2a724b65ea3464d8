"""A WSGI application behind a server that speaks RSGI: what goes in and out, on threads."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from flask import Flask, Response, request

from producer.serving import streams
from producer.serving.bodies import Spool, read_body
from producer.serving.server import Interrupt
from producer.serving.wsgi import ProtocolClosed, Threads, length_of
from shared.errors import BadRequest
from tests.rsgi import Served, served

#: Sizes of the pieces that were made.
made: list[int] = []
#: Set when the stream was told to end.
closed = threading.Event()
app = Flask(__name__)


def numbers() -> Iterator[bytes]:
    try:
        for number in range(5):
            yield f"{number}".encode()
    finally:
        closed.set()


@app.route("/numbers")
def stream() -> Response:
    return Response(numbers(), headers={"X-A": "1"})


def sevens() -> Iterator[bytes]:
    try:
        while True:
            made.append(50_000)
            yield b"7" * made[-1]
    finally:
        closed.set()


@app.route("/endless")
def endless() -> Response:
    return Response(sevens())


@app.route("/large")
def large() -> Response:
    return Response(bytes(300_000))


@app.route("/failing")
def failing() -> Response:
    return Response(fails())


def fails() -> Iterator[bytes]:
    try:
        yield b"7"
        raise ZeroDivisionError
    finally:
        closed.set()


@app.route("/sum", methods=["POST"])
def count() -> dict[str, Any]:
    size, reads = 0, 0
    while piece := request.stream.read(100_000):
        size, reads = size + len(piece), reads + 1
    return {"size": size, "reads": reads}


@app.route("/<path:path>", methods=["GET", "POST", "OPTIONS"])
def echo(path: str) -> dict[str, Any]:
    names = ("REMOTE_ADDR", "SERVER_PORT", "HTTP_COOKIE", "HTTP_A", "CONTENT_TYPE")
    about = {name: request.environ.get(name) for name in names}
    return {"path": path, "body": request.get_data().decode(), "query": request.args, **about}


@pytest.fixture
def here() -> Iterator[Served]:
    threads, spool = Threads(app, 4), Spool(1_000_000)
    closed.clear()

    async def answer(scope: Any, proto: Any) -> None:
        with suppress(ProtocolClosed, BadRequest):
            body = await read_body(proto, length_of(scope), 500_000, spool)
            await threads.answer(scope, proto, body.file)
            body.close()

    with served(lambda _: answer) as one:
        yield one
    assert spool.used == 0
    threads.pool.shutdown()


def json(answer: Any) -> Any:
    return app.json.loads(answer.body())


def test_a_request_arrives_whole(here: Served) -> None:
    found = json(here.ask("POST", "/ä b", b"body", {"Content-Type": "text/plain", "A": "1"}, "q=%C3%A4"))
    assert found == {
        "path": "ä b", "body": "body", "query": {"q": "ä"}, "REMOTE_ADDR": "127.0.0.1", "SERVER_PORT": "8000",
        "HTTP_COOKIE": None, "HTTP_A": "1", "CONTENT_TYPE": "text/plain",
    }  # fmt: skip


def test_a_header_that_comes_twice_is_one(here: Served) -> None:
    twice = [("Cookie", "a=1"), ("Cookie", "b=2"), ("A", "1"), ("A", "2")]
    found = json(here.ask("GET", "/x", headers=twice))
    assert (found["HTTP_COOKIE"], found["HTTP_A"]) == ("a=1;b=2", "1,2")


def test_a_large_body_is_read_as_it_is_asked_for(here: Served) -> None:
    pieces = [bytes(150_000), bytes(150_001), b""]
    assert json(here.ask("POST", "/sum", pieces=pieces)) == {"size": 300_001, "reads": 4}
    assert json(here.ask("POST", "/sum", bytes(300_001))) == {"size": 300_001, "reads": 4}


def test_a_body_that_breaks_off_is_not_answered(here: Served) -> None:
    assert here.ask("POST", "/sum", pieces=[bytes(300_000)], headers={"Content-Length": "300001"}).status == 0
    assert here.ask("POST", "/sum", pieces=[bytes(300_000), b"", b""]).status == 0  # as granian tells of a broken one


def test_an_answer_with_a_length_is_sent_whole_and_a_stream_piece_by_piece(here: Served) -> None:
    whole, streamed = here.ask("GET", "/x"), here.ask("GET", "/numbers")
    assert len(whole.sent) == 1 and dict(whole.headers)["content-length"] == str(len(whole.body()))
    assert streamed.body() == b"01234" and dict(streamed.headers)["x-a"] == "1"
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
    assert here.ask("POST", "/x", b"body", gone=True).status == 0
    assert here.ask("GET", "/x").status == 200


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
