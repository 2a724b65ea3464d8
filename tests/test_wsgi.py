"""A WSGI application behind a server that speaks RSGI: what goes in and out, on threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask, Response, request
from werkzeug.exceptions import ClientDisconnected

from producer.wsgi import Threads
from tests.rsgi import Served, served

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
    threads = Threads(app, 4)
    closed.clear()
    with served(lambda _: threads.answer) as one:
        yield one
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
    pieces = [bytes(150_000), b"", bytes(150_001)]
    assert json(here.ask("POST", "/sum", pieces=pieces)) == {"size": 300_001, "reads": 4}
    assert json(here.ask("POST", "/sum", bytes(300_001))) == {"size": 300_001, "reads": 4}


def test_a_body_that_ends_before_its_length_is_an_error(here: Served) -> None:
    answer = here.ask("POST", "/sum", pieces=[bytes(300_000)], headers={"Content-Length": "300001"})
    assert answer.status == ClientDisconnected.code


def test_an_answer_with_a_length_is_sent_whole_and_a_stream_piece_by_piece(here: Served) -> None:
    whole, streamed = here.ask("GET", "/x"), here.ask("GET", "/numbers")
    assert len(whole.sent) == 1 and dict(whole.headers)["content-length"] == str(len(whole.body()))
    assert streamed.sent == [b"0", b"1", b"2", b"3", b"4"] and dict(streamed.headers)["x-a"] == "1"
    assert here.ask("HEAD", "/numbers").body() == b"" and closed.is_set()


def test_a_stream_ends_when_its_client_goes(here: Served) -> None:
    answer = here.ask("GET", "/numbers", reads=2)
    assert answer.sent == [b"0", b"1"] and closed.is_set()


def test_a_client_that_goes_before_its_request_is_here_disturbs_nobody(here: Served) -> None:
    assert here.ask("POST", "/x", b"body", gone=True).status == 0
    assert here.ask("GET", "/x").status == 200
