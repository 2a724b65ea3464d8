"""The supervisor of `digitq up`: dead processes are restarted, stopped ones are not, none is left behind."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shared import ROOT
from shared.standalone import process as module
from shared.standalone.console import PENDING_BYTES, Console
from shared.standalone.process import Process
from shared.standalone.supervisor import Supervisor
from tests.tools import is_there

#: A supervisor in a process of its own, which says the pids of what it starts and runs until it is told to stop.
OWN = """
import sys
from shared.standalone import parent_death
from shared.standalone.console import Console
from shared.standalone.process import Process
from shared.standalone.supervisor import Supervisor
if sys.argv[1] == "guard":
    parent_death.before_exec = lambda: None
ours = Supervisor(Console(), parent=int(sys.argv[2]))
ours.stop_on_signals()
processes = [Process(f"p{n}", ["sh", "-c", command]) for n, command in enumerate(sys.argv[3:])]
for process in processes:
    ours.start(process)
while not ours.stopping:
    ours.tend(0.1)
ours.stop(processes, 5)
ours.close()
"""
#: Starts the words that follow, with its own pid for {parent}, and says the pid of what it has started.
STARTER = """
import os, subprocess, sys
own = subprocess.Popen([word.replace("{parent}", str(os.getpid())) for word in sys.argv[1:]])
print("own", own.pid, flush=True)
own.wait()
"""
#: Says its pid and the pid of what it has started itself, and waits.
FAMILY = "sleep 600 & echo pids $$ $!; wait"


@pytest.fixture
def heard() -> Iterator[tuple[Console, Callable[[], str]]]:
    """A console, and all that was written to it."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    text = bytearray()

    def read() -> str:
        try:
            while data := os.read(reading, 65_536):
                text.extend(data)
        except BlockingIOError:
            pass
        return text.decode()

    yield Console(writing), read
    os.close(reading)
    os.close(writing)


def until(condition: Callable[[], bool], supervisor: Supervisor | None = None, seconds: float = 60) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        if supervisor:
            supervisor.tend(0.05)
        else:
            time.sleep(0.05)
    return condition()


@pytest.fixture
def ours(heard: tuple[Console, Callable[[], str]]) -> Iterator[Supervisor]:
    supervisor = Supervisor(heard[0])
    yield supervisor
    supervisor.stop(supervisor._processes, 0)
    supervisor.close()


def pid(process: Process) -> int:
    return process.child.pid if process.child else 0


def test_a_process_that_is_killed_is_started_again_with_all_that_it_had_started(
    ours: Supervisor, heard: tuple[Console, Callable[[], str]]
) -> None:
    family = Process("family", ["sh", "-c", FAMILY])
    ours.start(family)
    assert until(lambda: "pids" in heard[1](), ours)
    parent, child = map(int, heard[1]().split("pids")[1].split()[:2])
    os.kill(parent, signal.SIGKILL)
    assert until(lambda: heard[1]().count("pids") == 2, ours)
    assert pid(family) != parent
    assert not is_there(child)
    assert "family was ended by signal 9, starting it again" in heard[1]()


def test_a_process_that_somebody_has_stopped_is_not_started_again(
    ours: Supervisor, heard: tuple[Console, Callable[[], str]]
) -> None:
    at_once, orderly = (
        Process("a", ["sleep", "600"]),
        Process("b", ["sh", "-c", "trap 'exit 0' TERM; sleep 600 & wait"]),
    )
    kept = Process("c", ["sleep", "600"], keep=True)
    for process in (at_once, orderly, kept):
        ours.start(process)
    first = pid(kept)
    until(lambda: False, ours, 0.5)
    for process in (at_once, orderly, kept):
        os.kill(pid(process), signal.SIGTERM)
    assert until(lambda: pid(kept) not in (0, first), ours)
    assert until(lambda: (at_once.code, orderly.code) == (0, 0), ours)
    assert not at_once.runs and not orderly.runs
    assert heard[1]().count("was stopped, it is not started again") == 2


@pytest.mark.parametrize("status", [2, 78])
def test_what_another_start_would_not_change_is_not_started_again(ours: Supervisor, status: int) -> None:
    refusing = Process("refusing", ["sh", "-c", f"exit {status}"])
    ours.start(refusing)
    assert until(lambda: refusing.code is not None, ours)
    assert (refusing.code, refusing.failures) == (status, 1)


def test_one_that_fails_at_once_is_given_up_after_five_times_with_growing_pauses(
    ours: Supervisor, heard: tuple[Console, Callable[[], str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUICK_SECONDS", 60.0)
    broken = Process("broken", ["sh", "-c", "echo why; exit 9"], keep=True)
    began = time.monotonic()
    ours.start(broken)
    assert until(lambda: broken.code == 9, ours)
    assert time.monotonic() - began > 0.3 + 0.6 + 1.2 + 2.4
    assert heard[1]().count("why") == 5
    assert "broken does not start, giving up (exit status 9)" in heard[1]()


def test_one_that_fails_after_a_while_is_started_again_for_ever(
    ours: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUICK_SECONDS", 0.0)
    monkeypatch.setattr(module, "LONGEST_PAUSE", 0.3)
    failing = Process("failing", ["sh", "-c", "exit 9"])
    ours.start(failing)
    assert until(lambda: failing.failures > 6, ours)
    assert failing.code is None


def test_a_command_that_cannot_be_started_is_given_up(
    ours: Supervisor, heard: tuple[Console, Callable[[], str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LONGEST_PAUSE", 0.0)
    missing = Process("missing", ["/nowhere/at/all"])
    ours.start(missing)
    assert until(lambda: missing.code is not None, ours)
    assert "/nowhere/at/all" in heard[1]()


def test_what_does_not_stop_in_time_is_killed_with_all_that_it_has_started(
    ours: Supervisor, heard: tuple[Console, Callable[[], str]]
) -> None:
    deaf = Process("deaf", ["sh", "-c", "trap '' TERM; sleep 600 & echo pids $$ $!; while :; do wait; done"])
    ours.start(deaf)
    assert until(lambda: "pids" in heard[1](), ours)
    pids = list(map(int, heard[1]().split("pids")[1].split()[:2]))
    assert not ours.stop([deaf], 0.2)
    assert until(lambda: not any(map(is_there, pids)))
    assert "deaf has not stopped within 0 s, it is killed" in heard[1]()


def test_every_line_has_the_name_of_its_process_the_last_one_too(
    ours: Supervisor, heard: tuple[Console, Callable[[], str]]
) -> None:
    for name, command in (("one", "echo first; printf unfinished"), ("another", "echo second >&2")):
        ours.start(Process(name, ["sh", "-c", command]))
    assert until(lambda: all(not process.runs for process in ours._processes), ours)
    assert {"one      | first", "one      | unfinished", "another  | second"} <= set(heard[1]().splitlines())


def test_where_json_is_asked_for_every_line_is_an_object_that_names_its_process() -> None:
    reading, writing = os.pipe()
    console = Console(writing, as_json=True)
    supervisor = Supervisor(console)
    words = ('{"time": "t", "level": "INFO", "message": "m"}', "plain", '{"no', "[1]", "{}")
    ours = Process("worker.1", ["printf", "%s\\n%s\\n%s\\n%s\\n%s", *words])
    supervisor.start(ours)
    until(lambda: not ours.runs, supervisor)
    supervisor.say("stopping")
    console.announce("digitq is ready at http://x", port=8000)
    os.close(writing)
    with os.fdopen(reading) as text:
        lines = [json.loads(line) for line in text]
    assert lines[0] == {"process": "worker.1", "time": "t", "level": "INFO", "message": "m"}
    of_worker = [line for line in lines if line["process"] == "worker.1"]
    assert [line.get("message") for line in of_worker] == ["m", "plain", '{"no', "[1]", None]
    stopped, stopping, ready = (line for line in lines if line["process"] == "up")
    assert "was stopped" in stopped["message"] and stopping["message"] == "stopping"
    assert ready["message"].startswith("digitq is ready at") and ready["port"] == 8000
    assert all(line["time"] and line["level"] for line in (stopped, stopping, ready, *of_worker[:-1]))


def test_as_text_each_line_has_one_time(heard: tuple[Console, Callable[[], str]]) -> None:
    console, read = heard
    console.line("web", b"2026-11-30 10:00:00,000 INFO digitq.web: accepted")
    Supervisor(console).say("stopping")
    of_web, of_up = read().splitlines()
    assert of_web == "web      | 2026-11-30 10:00:00,000 INFO digitq.web: accepted"
    assert re.fullmatch(r"up       \| \d{4}-\d\d-\d\d [\d:,]+ INFO digitq.up: stopping", of_up)


# ---------------------------------------------------------------------- nothing is left behind


@pytest.mark.parametrize("how", ["kernel", "guard"])
@pytest.mark.parametrize("end", ["kill", "stop", "parent"])
def test_whatever_ends_the_supervisor_ends_what_it_has_started(how: str, end: str) -> None:
    # With the kernel's word it is the children; with the guard's all that they have started too.
    commands = [FAMILY if how == "guard" else "echo pids $$; exec sleep 600"] * 2
    command = [sys.executable, "-c", STARTER, sys.executable, "-c", OWN, how, "{parent}", *commands]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        pids, own = list[int](), 0
        try:
            while not own or len(pids) < (4 if how == "guard" else 2):
                words = parent.stdout.readline().split()
                assert words, "it has ended"
                own = int(words[1]) if words[0] == "own" else own
                pids += map(int, words[words.index("pids") + 1 :]) if "pids" in words else []
            assert all(map(is_there, pids))
            {
                "kill": lambda: os.kill(own, signal.SIGKILL),
                "stop": lambda: os.kill(own, signal.SIGTERM),
                "parent": parent.kill,
            }[end]()
            assert until(lambda: not any(map(is_there, [own, *pids])))
        finally:
            for one in (own, *pids):
                if one and is_there(one):
                    os.kill(one, signal.SIGKILL)
            parent.kill()


def test_a_guard_that_is_killed_is_replaced() -> None:
    command = [sys.executable, "-c", OWN, "guard", "0", FAMILY]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as own:
        assert own.stdout
        pids = list[int]()
        try:
            pids = [int(word) for word in own.stdout.readline().split()[-2:]]

            def guards() -> list[int]:
                found = Path(f"/proc/{own.pid}/task/{own.pid}/children").read_text().split()
                return [int(one) for one in found if int(one) not in pids and is_there(int(one))]

            assert until(lambda: len(guards()) == 1)
            [first] = guards()
            os.kill(first, signal.SIGKILL)
            assert until(lambda: guards() not in ([], [first]))
            own.kill()
            assert until(lambda: not any(map(is_there, pids)))
        finally:
            own.kill()
            for one in pids:
                if is_there(one):
                    os.kill(one, signal.SIGKILL)


# ---------------------------------------------------------------------- the console


def test_a_closed_console_disturbs_nobody(ours: Supervisor) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    ours.console = Console(writing)
    speaking = Process("speaking", ["sh", "-c", "while :; do echo hello; sleep 0.05; done"])
    ours.start(speaking)
    until(lambda: False, ours, 0.5)
    assert speaking.runs
    assert ours.stop([speaking], 10)
    os.close(writing)


def test_a_full_disk_disturbs_nobody() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    console = Console(full)
    for _ in range(100):
        console.line("up", b"hello")
    console.close()
    os.close(full)


def test_a_console_that_nobody_reads_is_not_waited_for_and_says_later_what_is_missing() -> None:
    reading, writing = os.pipe()
    console = Console(writing)
    for _ in range(3 * PENDING_BYTES // 1000):
        console.line("web", b"x" * 1000)
    os.set_blocking(reading, False)
    text = b""
    while data := os.read(reading, 65_536):
        text += data
        console.line("web", b"again")
        if b"lines dropped: nobody read them" in text:
            break
    assert b"lines dropped: nobody read them" in text
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_a_terminal_without_colours_gets_none(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    terminal, inner = pty.openpty()
    Console(inner).line("web", b"hello")
    assert os.read(terminal, 1000) == b"web      | hello\r\n"
    os.close(terminal)
    os.close(inner)


def test_names_have_colours_on_a_terminal_alone(
    monkeypatch: pytest.MonkeyPatch, heard: tuple[Console, Callable[[], str]]
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    console, read = heard
    console.line("web", b"hello")
    assert read() == "web      | hello\n"
    terminal, inner = pty.openpty()
    on_terminal = Console(inner)
    on_terminal.line("web", b"hello")
    on_terminal.line("worker.1", b"hello")
    said = b""
    while said.count(b"\n") < 2:
        said += os.read(terminal, 1000)
    assert said.startswith(b"\x1b[36mweb      | \x1b[0mhello") and b"\x1b[33mworker.1" in said
    os.close(terminal)
    os.close(inner)
