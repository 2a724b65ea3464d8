"""Tests of `digitq up` without its processes: when it ends, what it waits for, and what it says."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from errno import EACCES, EADDRINUSE
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from shared.errors import CannotStart, MissingPart, RedisUnavailable, SettingsError
from shared.redis_server.server_findings import ERROR, WARNING, Finding
from shared.settings import Settings
from shared.standalone import embedded_server, port, supervisor, up
from shared.standalone.process import Process
from shared.standalone.supervisor import Supervisor
from tests.clock import Clock
from tests.consoles import heard_console

URL, REDIS = "http://127.0.0.1:8000", "redis://:secret@h:1"


class Stepping:
    """A supervisor whose each turn does the next step, and which is stopped after the last."""

    def __init__(self, *steps: Callable[[], object], clock: Clock | None = None) -> None:
        self.steps, self.stopping, self.said, self.clock = list(steps), False, list[str](), clock
        self.console: Any = SimpleNamespace(announce=lambda text, **fields: self.said.append(text))

    def tend(self, seconds: float) -> None:
        if self.clock:
            self.clock.now += 1
        if self.steps:
            self.steps.pop(0)()
        else:
            self.stopping = True

    def say(self, text: str) -> None:
        self.said.append(text)


def nothing() -> None:
    """A turn in which nothing happens."""


@pytest.fixture(autouse=True)
def answers(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """Return the addresses that answer."""
    ok = dict[str, bool]()
    monkeypatch.setattr(up, "http_ok", lambda url: ok.get(url, False))
    return ok


def served(*steps: Callable[[], object], server: Process | None = None, workers: int = 2) -> tuple[int, list[str]]:
    ours: Any = Stepping(*[(lambda step=step: step(web, fleet)) if step is not nothing else step for step in steps])
    web, fleet = Process("web", []), [Process(f"worker.{n}", []) for n in range(workers)]
    return up._serve(ours, server, web, fleet, URL, REDIS), ours.said


def code(value: int, *which: int) -> Any:
    """Ends the processes of these numbers, 0 for the web process, with a status for good."""

    def step(web: Process, fleet: list[Process]) -> None:
        for number in which:
            [web, *fleet][number].code = value

    return step


def test_it_ends_when_web_or_all_workers_have_failed_and_not_before() -> None:
    assert served(code(2, 0), nothing)[0] == 2
    assert served(code(78, 1), nothing)[0] == 0  # another one still runs
    assert served(code(78, 1), code(78, 2), nothing)[0] == 78
    assert served(code(0, 1), code(78, 2), nothing)[0] == 78


def test_it_ends_when_all_were_stopped_and_not_before() -> None:
    later: list[str] = []
    assert served(code(0, 0, 1), code(0, 2), lambda *_: later.append("late"))[0] == 0 and later == []
    assert served(code(0, 0, 1), lambda *_: later.append("goes on"))[0] == 0 and later == ["goes on"]
    assert served(code(0, 0), nothing, workers=0)[0] == 0


def test_a_server_that_has_failed_for_good_is_an_error() -> None:
    server = Process("server", [])
    server.code = 1
    with pytest.raises(RedisUnavailable, match="again and again"):
        served(nothing, server=server)


def test_it_says_once_that_it_is_ready_when_workers_are_or_else_the_web_process(answers: dict[str, bool]) -> None:
    answers[f"{URL}/healthz"] = True
    assert served(nothing, nothing)[1] == []
    [said] = served(nothing, nothing, workers=0)[1]
    assert "no worker runs" in said and "secret" not in said
    answers[f"{URL}/readyz"] = True
    [said] = served(nothing, nothing)[1]
    assert said.startswith(f"digitq is ready at {URL}\n") and "--url" not in said and "secret" not in said
    assert "--url http://h:1" in up.ready("http://h:1", REDIS)


def test_the_example_is_one_that_works_in_this_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert f"{Path(sys.executable).parent}/digitq submit PICTURE --wait" in up.ready(URL, REDIS)
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "seven.png").touch()
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    assert "  bin/digitq submit examples/seven.png --wait\n" in up.ready(URL, REDIS)


@pytest.mark.parametrize(("level", "refused"), [(ERROR, True), (WARNING, False)])
def test_a_server_that_would_lose_pictures_is_refused(
    level: Any, refused: bool, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    monkeypatch.setattr(up, "read_server", lambda client, settings: [Finding(level, "code", "what", "hint")])
    if refused:
        with pytest.raises(SettingsError, match="REDIS_URL: what"):
            up._check_server(settings)
    else:
        up._check_server(settings)


def test_a_server_that_is_not_there_yet_is_waited_for(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    def away(*_: object) -> list[Finding]:
        raise RedisUnavailable

    monkeypatch.setattr(up, "read_server", away)
    up._check_server(settings)


def test_web_and_workers_import_this_digitq_and_keep_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/mine")
    web, fleet = up._processes("redis://h:1", "h", 7, 2)
    assert (web.name, [one.name for one in fleet]) == ("web", ["worker.1", "worker.2"])
    env = dict(web.env or {})
    assert env["PYTHONPATH"].split(os.pathsep)[1:] == ["/mine"] and env["DIGITQ_PORT"] == "7"
    assert env["REDIS_URL"] == "redis://h:1" and "--take-over" in web.command and "-P" in web.command
    monkeypatch.delenv("PYTHONPATH")
    assert os.pathsep not in up.environment()["PYTHONPATH"]


# ---------------------------------------------------------------------- the embedded server


@pytest.fixture
def loading(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., list[str]]]:
    """Waits for a server that answers INFO like this, a second later each time; returns the lines that it said."""
    clock = Clock()
    monkeypatch.setattr(embedded_server, "time", clock)

    def wait(*answers: dict[str, Any] | None, failures: int = 0, log: Path = Path("/nowhere"), stop: int = 999) -> Any:
        replies = iter(answers)

        def info(section: str) -> dict[str, Any]:
            reply = next(replies)
            if reply is None:
                raise redis.ConnectionError
            return reply

        monkeypatch.setattr(
            embedded_server, "connect", lambda *_, **__: SimpleNamespace(info=info, close=lambda: closed.append(1))
        )
        closed: list[int] = []
        ours: Any = Stepping(*[nothing] * stop, clock=clock)
        server = Process("server", [])
        server.failures = failures
        embedded_server._wait_until_loaded(ours, server, "unix://x", log)
        assert closed and next(replies, "none is left") == "none is left"
        return ours.said

    yield wait


def load(loaded: int) -> dict[str, Any]:
    return {"loading": 1, "loading_loaded_bytes": loaded, "loading_loaded_perc": "12.5", "loading_eta_seconds": 3}


READY = {"loading": 0}


def test_a_server_that_loads_is_waited_for_and_says_now_and_then_how_far_it_is(loading: Any) -> None:
    assert loading(None, READY) == []
    said = loading(*[load(n) for n in range(9)], READY)
    assert said == ["the server loads its log: 12 %, about 3 s to go"] * 2  # each four seconds: more than three


def test_a_server_that_makes_progress_may_take_as_long_as_it_needs(loading: Any) -> None:
    loading(*[load(n // 100) for n in range(500)], READY)


def test_a_server_that_stands_still_is_given_up_after_two_minutes(loading: Any) -> None:
    loading(*[load(5)] * 121, READY)
    with pytest.raises(RedisUnavailable, match="no progress for 120 s"):
        loading(*[load(5)] * 122, READY)
    loading(*[None] * 120, READY)
    with pytest.raises(RedisUnavailable, match="no progress for 120 s"):
        loading(*[None] * 121, READY)


def test_a_server_that_fails_is_quoted_and_a_stop_is_heeded(loading: Any, tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"first\n" * 2000 + b"no room \xff\n")
    with pytest.raises(RedisUnavailable, match="does not start: no room"):
        loading(READY, failures=1, log=tmp_path / "log")
    with pytest.raises(RedisUnavailable, match=r"does not start:  \(see /nowhere\)"):
        loading(READY, failures=1)
    (tmp_path / "log").write_bytes(b"")
    assert embedded_server._last_line(tmp_path / "log") == ""
    with pytest.raises(SystemExit) as end:
        loading(load(1), load(2), stop=1)
    assert end.value.code == 0


def test_the_server_is_one_on_the_path_or_the_package_or_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_server.shutil, "which", lambda name: f"/bin/{name}")
    assert embedded_server.server_binary() == "/bin/valkey-server"
    monkeypatch.setattr(embedded_server.shutil, "which", lambda name: None)
    assert embedded_server.server_binary().endswith("valkey-server")
    monkeypatch.setattr(embedded_server, "find_spec", lambda name: None)
    with pytest.raises(MissingPart, match="redis-server, valkey-server"):
        embedded_server.server_binary()


# ---------------------------------------------------------------------- the port


@pytest.fixture
def refusals(monkeypatch: pytest.MonkeyPatch) -> list[OSError | None]:
    """Return the results of the next attempts to bind; the last one repeats."""
    ends: list[OSError | None] = []
    monkeypatch.setattr(port, "_refusal", lambda host, number: ends.pop(0) if len(ends) > 1 else ends[0])
    monkeypatch.setattr(port, "time", Clock())
    return ends


def test_a_port_is_waited_for_only_while_another_process_has_it(refusals: list[OSError | None]) -> None:
    used, denied = OSError(EADDRINUSE, "in use"), OSError(EACCES, "denied")
    refusals[:] = [used, used, None]
    port.check_port("h", 7, 5)
    refusals[:] = [used]
    for seconds in (0, 5):
        with pytest.raises(CannotStart, match="port 7 is in use"):
            port.check_port("h", 7, seconds)
    refusals[:] = [denied, None]
    with pytest.raises(CannotStart, match=r"h:7 cannot be bound \(denied\)"):
        port.check_port("h", 7, 5)


# ---------------------------------------------------------------------- the supervisor


@pytest.fixture
def ours() -> Iterator[Supervisor]:
    with heard_console() as (console, _):
        one = Supervisor(console)
        yield one
        one.close()


def test_a_second_ctrl_c_hurries_and_another_signal_does_not(ours: Supervisor) -> None:
    ours._on_signal(signal.SIGINT, None)
    assert (ours.stopping, ours.hurried) == (True, False)
    ours._on_signal(signal.SIGTERM, None)
    assert not ours.hurried
    ours._on_signal(signal.SIGINT, None)
    assert ours.hurried
    ours.stop([], 0)
    assert not ours.hurried  # a new stop waits again


@pytest.mark.parametrize(("hangup", "handled"), [(signal.SIG_IGN, 2), (signal.SIG_DFL, 3)])
def test_a_hangup_stays_ignored_where_it_was(
    hangup: Any, handled: int, ours: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers: list[int] = []
    monkeypatch.setattr(supervisor.signal, "getsignal", lambda number: hangup)
    monkeypatch.setattr(supervisor.signal, "signal", lambda number, handler: numbers.append(number))
    ours.stop_on_signals()
    assert len(numbers) == handled and signal.SIGINT in numbers


def test_the_end_of_the_parent_is_a_stop(ours: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    ours.tend(0)
    assert not ours.stopping  # without a parent to look for
    ours._parent = os.getppid()
    ours.tend(0)
    assert not ours.stopping
    monkeypatch.setattr(supervisor.os, "getppid", lambda: 1)
    ours._parent = 77
    ours.tend(0)
    assert ours.stopping
