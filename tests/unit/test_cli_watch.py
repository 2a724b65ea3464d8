"""Tests of `digitq watch`: its stream of events, its lines and its screen, and how it connects again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import click
import httpx2
import pytest

from producer.cli import watch
from producer.cli.screen import load_lines, screen, status_line
from producer.cli.watch import LAST, Event, Watch, parse_events
from shared.errors import NotFound, ServerUnavailable, Unauthorized, UnexpectedAnswer
from shared.prediction import Prediction, State
from tests.canned import problem

STATUS = {
    "redis": True, "queued": 12, "running": 3, "oldest_ms": 90, "workers": {"alive": 2, "busy": 1, "needed": 4},
    "latency_goal_ms": 1000, "arrivals_per_second": 90.2, "per_second": 80.5, "capacity_per_second": 100.0,
    "eta_ms": 150, "p50_ms": 5.0, "p95_ms": None,
}  # fmt: skip


EVENTS = {"Content-Type": "text/event-stream; charset=utf-8"}


def event(kind: str, data: dict[str, Any], id: str = "") -> str:
    return (f"id: {id}\n" if id else "") + f"event: {kind}\ndata: {json.dumps(data)}\n\n"


def ended(id: str, at: float | None = 1.0) -> dict[str, Any]:
    return Prediction(id, State.SUCCEEDED, f"{id}.png", 7, 0.9, decision="accept", finished_at=at).to_json()


class Over(Exception):
    """All answers were given."""


class Server:
    """Answers one connection after another, and records the requests. Its clock moves while the client sleeps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers: list[str | httpx2.Response | Exception] = []
        self.history: list[dict[str, Any]] = []
        self.asked: list[dict[str, str]] = []
        self.timeouts: list[httpx2.Timeout] = []
        self.pauses: list[float] = []
        self.now = 0.0
        monkeypatch.setattr(httpx2, "stream", self.stream)
        monkeypatch.setattr(httpx2, "get", self.get)
        clock = SimpleNamespace(monotonic=lambda: self.now, sleep=self.sleep, time=lambda: 0.0)
        monkeypatch.setattr(watch, "time", clock)

    @contextmanager
    def stream(self, method: str, url: str, headers: dict[str, str], timeout: httpx2.Timeout) -> Iterator[Any]:
        self.asked.append(headers)
        self.timeouts.append(timeout)
        answer = self.answers.pop(0)
        if isinstance(answer, httpx2.RequestError):
            answer.request = httpx2.Request(method, url)
            raise answer
        yield httpx2.Response(200, headers=EVENTS, text=answer) if isinstance(answer, str) else answer

    def get(self, url: str, **options: Any) -> httpx2.Response:
        return httpx2.Response(200, json={"predictions": self.history})

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds
        if not self.answers:
            raise Over

    def watched(self, one: Watch) -> None:
        """Watch until all answers were given."""
        with pytest.raises(Over):
            one.run()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    return Server(monkeypatch)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch, server: Server) -> Watch:
    """A watch on a terminal of 12 lines of 40."""
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: (40, 12))
    monkeypatch.setattr(click, "echo", partial(click.echo, color=True))  # as on a terminal
    one = Watch("http://nowhere", False)
    one._screen = True
    return one


def test_the_stream_is_read_as_the_standard_says() -> None:
    text = (
        ": hello\nretry: 2000\n\nid: 1\nevent: status\ndata: {\ndata: }\n\nevent: reset\ndata:{}\n\nevent: cut\ndata: {"
    )
    assert list(parse_events(text.split("\n"))) == [Event("status", {}, "1"), Event("reset", {})]
    assert list(parse_events(['data: {"a":', 'data:1}', "", "data: {}", ""])) == [
        Event("message", {"a": 1}), Event("message", {}),
    ]  # fmt: skip


def test_lines_and_screens() -> None:
    assert status_line(STATUS, 0).endswith(
        "queued=12 running=3 alive=2 busy=1 needed=4 arrivals=90.2 per_second=80.5 eta_ms=150 p50_ms=5.0 p95_ms=-"
    )
    older = {name: value for name, value in STATUS.items() if name not in ("arrivals_per_second", "eta_ms")}
    assert "arrivals=- per_second=80.5 eta_ms=- " in status_line(older, 0)
    assert status_line({"redis": False}, 0).endswith("redis=down")
    last = [Prediction(str(n), State.SUCCEEDED, f"{n}.png", n, 0.9, decision="accept") for n in range(3)]
    found = screen("http://x", STATUS, last, 0, "connecting again")
    assert "connecting again" in found[0] and "12 waiting" in found[2] and "slowest 5 % -" in found[5]
    assert "4 needed for the goal of 1.0 s" in found[3]
    assert [text.split()[1] for text in found[7:]] == ["2.png:", "1.png:", "0.png:"]
    assert screen("http://x", {"redis": False}, [], 0)[2] == "Redis does not answer"
    assert screen("http://x", {"redis": False, "reason": "full"}, [], 0)[2] == "full"
    assert screen("http://me:secret@x", {}, [], 0)[::2] == [
        screen("http://me:***@x", {}, [], 0)[0],
        "No status received yet",
    ]
    assert "secret" not in screen("http://me:secret@x", {}, [], 0)[0]


def test_models_are_told_with_their_workers_where_there_are_several() -> None:
    def model(**workers: Any) -> str:
        return load_lines({**STATUS, "workers": {"alive": 3, "busy": 0, **workers}})[-1]

    assert model(models={"a": 3}) == "model     a"
    assert model(models={"a": 1, "b": 2}) == "model     a (1 of 3 workers), b (2 of 3 workers)"
    assert model(models={"a": 3}, refusing=1).endswith("a   a newer one is refused, see GET /v1/model")
    assert model(models={}).startswith("speed")


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (None, "-"),
        (0, "0.0 s"),
        (9_940, "9.9 s"),
        (10_000, "10 s"),
        (119_000, "119 s"),
        (120_000, "2 min"),
    ],
)
def test_durations_are_as_exact_as_they_are_short(ms: int | None, text: str) -> None:
    assert load_lines({**STATUS, "oldest_ms": ms})[0].split("oldest ")[1].startswith(f"{text} ")


def test_a_first_connection_that_fails_is_an_error(server: Server) -> None:
    page = httpx2.Response(200, headers={"Content-Type": "text/html"}, text="<html>")
    page.request = httpx2.Request("GET", "http://nowhere/v1/events")
    for answer, error in ((httpx2.ConnectError("x"), ServerUnavailable), (problem(401, "unauthorized"), Unauthorized),
                          (problem(404, "not_found"), NotFound), (page, UnexpectedAnswer)):  # fmt: skip
        server.answers = [answer]
        with pytest.raises(error):
            Watch("http://nowhere", True).run()
    assert server.pauses == []


def test_a_connection_that_is_lost_is_made_again_with_the_last_event(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    first = event("prediction", ended("a"), "5-0") + event("status", STATUS)
    server.answers = [first, problem(503, "redis_unavailable"), httpx2.ReadError("reset"), problem(401, "unauthorized"),
                      event("reset", {})]  # fmt: skip
    server.watched(Watch("http://nowhere", True, {"Authorization": "Bearer k"}))
    assert server.asked == [{"Authorization": "Bearer k"}] + [{"Authorization": "Bearer k", "Last-Event-ID": "5-0"}] * 4
    assert all(timeout.read == watch.SILENT_SECONDS for timeout in server.timeouts)
    out, err = capsys.readouterr()
    assert [json.loads(line)["event"] for line in out.splitlines()] == ["prediction", "status", "reset"]
    assert err.count("digitq: connecting again: ") == 5


def test_pauses_grow_until_an_event_comes(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.uniform", lambda low, high: high)
    status = event("status", STATUS)
    server.answers = [status, "", "", httpx2.ReadError("x"), status, ""]
    server.watched(Watch("http://nowhere", True))
    assert server.pauses == pytest.approx([0.2, 0.4, 0.8, 0.5 + 1.6, 0.2, 0.4])


def test_it_ends_in_time_and_no_pause_is_longer(server: Server) -> None:
    server.answers = [event("status", STATUS), httpx2.ReadError("x"), httpx2.ReadError("x"), ""]
    Watch("http://nowhere", True).run(0.9)
    assert sum(server.pauses) == pytest.approx(0.9)
    asked = len(server.asked)
    Watch("http://nowhere", True).run(0)
    assert len(server.asked) == asked


def test_a_stream_is_left_when_the_time_is_over(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    printed: list[Event] = []
    one = Watch("http://nowhere", True)

    def take_a_second(found: Event) -> None:
        printed.append(found)
        server.now += 1

    monkeypatch.setattr(one, "_print", take_a_second)
    server.answers = [event("status", STATUS) * 9]
    one.run(3)
    assert len(printed) == 3 and server.pauses == []


def test_a_screen_shows_the_last_that_ended_each_once_and_fits(
    server: Server, terminal: Watch, capsys: pytest.CaptureFixture[str]
) -> None:
    server.history = [ended("waits", None), ended("new", 2), ended("old", 1)]
    many = "".join(event("prediction", ended(f"n{n}")) for n in range(LAST))
    server.answers = [event("prediction", ended("new", 2)) + event("status", STATUS), many + event("status", STATUS)]
    server.watched(terminal)
    first, second = (text.split(watch.CLEAR_REST)[0] for text in capsys.readouterr().out.split(watch.HOME)[2::2])
    rows = [line.removesuffix(watch.CLEAR_LINE) for line in first.splitlines()]
    assert [row.split()[1] for row in rows[7:9]] == ["new.png:", "old.png:"] and len(rows) == 9
    rows = [line.removesuffix(watch.CLEAR_LINE) for line in second.splitlines()]
    assert len(rows) == 11 and max(map(len, rows)) == 39
    assert rows[7].split()[1] == f"n{LAST - 1}.png:" and len(terminal._last) == LAST


def test_a_reset_loads_the_history_again(server: Server, terminal: Watch) -> None:
    server.answers = [event("prediction", ended("gone")) + event("reset", {})]
    server.history = [ended("kept")]
    server.watched(terminal)
    assert [one.id for one in terminal._last] == ["kept"]


def test_what_only_a_newer_server_knows_is_left_out_and_the_rest_is_shown(server: Server, terminal: Watch) -> None:
    newer = ended("newer") | {"state": "paused"}
    server.history = [newer, ended("kept")]
    server.answers = [event("prediction", newer) + event("later", {}) + event("prediction", ended("next"))]
    server.watched(terminal)
    assert [one.id for one in terminal._last] == ["kept", "next"]


def test_a_screen_hides_the_cursor_and_shows_it_again_whatever_happens(
    server: Server, terminal: Watch, capsys: pytest.CaptureFixture[str]
) -> None:
    server.answers = [problem(401, "unauthorized")]
    with pytest.raises(Unauthorized):
        terminal.run()
    assert capsys.readouterr().out == watch.HIDE + watch.HOME + watch.CLEAR_REST + watch.SHOW + "\n"


def test_without_a_terminal_it_is_a_line_for_each_status(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.answers = [event("prediction", ended("a")) + event("status", STATUS)]
    server.watched(Watch("http://nowhere", False))
    out = capsys.readouterr().out
    assert out.count("\n") == 1 and " queued=12 " in out
