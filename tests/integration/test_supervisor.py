"""The supervisor of `digitq up`: dead processes are restarted, stopped ones are not, none is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shared import ROOT
from shared.standalone import process as module
from shared.standalone.console import Console
from shared.standalone.process import Process
from shared.standalone.supervisor import Supervisor
from tests import waits
from tests.consoles import Heard, heard_console
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
def heard() -> Iterator[Heard]:
    with heard_console() as console:
        yield console


def until(holds: Callable[[], object], supervisor: Supervisor) -> None:
    """Let the supervisor work until something holds."""
    waits.until(lambda: supervisor.tend(0.05) or holds(), 30)


@pytest.fixture
def ours(heard: Heard) -> Iterator[Supervisor]:
    supervisor = Supervisor(heard[0])
    yield supervisor
    supervisor.stop(supervisor._processes, 0)
    supervisor.close()


def pid(process: Process) -> int:
    return process.child.pid if process.child else 0


def test_a_process_that_is_killed_is_started_again_with_all_that_it_had_started(ours: Supervisor, heard: Heard) -> None:
    family = Process("family", ["sh", "-c", FAMILY])
    ours.start(family)
    until(lambda: "pids" in heard[1](), ours)
    parent, child = map(int, heard[1]().split("pids")[1].split()[:2])
    os.kill(parent, signal.SIGKILL)
    until(lambda: heard[1]().count("pids") == 2, ours)
    assert pid(family) != parent
    assert not is_there(child)
    assert "family was ended by signal 9, starting it again" in heard[1]()


def test_a_process_that_somebody_has_stopped_is_not_started_again(ours: Supervisor, heard: Heard) -> None:
    at_once, orderly = (
        Process("a", ["sleep", "600"]),
        Process("b", ["sh", "-c", "trap 'exit 0' TERM; sleep 600 & echo ready; wait"]),
    )
    kept = Process("c", ["sleep", "600"], keep=True)
    for process in (at_once, orderly, kept):
        ours.start(process)
    first = pid(kept)
    until(lambda: "ready" in heard[1](), ours)
    for process in (at_once, orderly, kept):
        os.kill(pid(process), signal.SIGTERM)
    until(lambda: pid(kept) not in (0, first), ours)
    until(lambda: (at_once.code, orderly.code) == (0, 0), ours)
    assert not at_once.runs and not orderly.runs
    assert heard[1]().count("was stopped, it is not started again") == 2


@pytest.mark.parametrize("status", [2, 78])
def test_what_another_start_would_not_change_is_not_started_again(ours: Supervisor, status: int) -> None:
    refusing = Process("refusing", ["sh", "-c", f"exit {status}"])
    ours.start(refusing)
    until(lambda: refusing.code is not None, ours)
    assert (refusing.code, refusing.failures) == (status, 1)


def test_one_that_fails_at_once_is_given_up_after_five_times_with_growing_pauses(
    ours: Supervisor, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUICK_SECONDS", 60.0)
    broken = Process("broken", ["sh", "-c", "echo why; exit 9"], keep=True)
    began = time.monotonic()
    ours.start(broken)
    until(lambda: broken.code == 9, ours)
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
    until(lambda: failing.failures > 6, ours)
    assert failing.code is None


def test_a_command_that_cannot_be_started_is_given_up(
    ours: Supervisor, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LONGEST_PAUSE", 0.0)
    missing = Process("missing", ["/nowhere/at/all"])
    ours.start(missing)
    until(lambda: missing.code is not None, ours)
    assert "/nowhere/at/all" in heard[1]()


def test_what_does_not_stop_in_time_is_killed_with_all_that_it_has_started(ours: Supervisor, heard: Heard) -> None:
    deaf = Process("deaf", ["sh", "-c", "trap '' TERM; sleep 600 & echo pids $$ $!; while :; do wait; done"])
    ours.start(deaf)
    until(lambda: "pids" in heard[1](), ours)
    pids = list(map(int, heard[1]().split("pids")[1].split()[:2]))
    assert not ours.stop([deaf], 0.2)
    waits.until(lambda: not any(map(is_there, pids)), 20)
    assert "deaf has not stopped within 0 s, it is killed" in heard[1]()


def test_a_ctrl_c_at_the_very_moment_of_the_message_kills_at_once(
    ours: Supervisor, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaf = Process("deaf", ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 600; done"])
    ours.start(deaf)
    until(lambda: "ready" in heard[1](), ours)
    ours.stopping = True
    say = ours.console.say

    def said(text: str) -> None:
        say(text)
        if text == "stopping":
            ours._on_signal(signal.SIGINT, None)

    monkeypatch.setattr(ours.console, "say", said)
    assert not ours.stop([deaf], 60, "stopping")
    assert "deaf has not stopped yet, it is killed" in heard[1]()


def test_every_line_has_the_name_of_its_process_the_last_one_too(ours: Supervisor, heard: Heard) -> None:
    for name, command in (("one", "echo first; printf unfinished"), ("another", "echo second >&2")):
        ours.start(Process(name, ["sh", "-c", command]))
    until(lambda: all(not process.runs for process in ours._processes), ours)
    assert {"one      | first", "one      | unfinished", "another  | second"} <= set(heard[1]().splitlines())


def test_lines_that_come_in_pieces_are_whole_and_endless_ones_are_cut(ours: Supervisor, heard: Heard) -> None:
    ours.start(Process("pieces", ["sh", "-c", "printf one; sleep 0.1; echo two; head -c 200000 /dev/zero; sleep 600"]))
    until(lambda: heard[1]().count("\0") > 65_536, ours)
    assert heard[1]().startswith("pieces   | onetwo\n")


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
            waits.until(lambda: not any(map(is_there, [own, *pids])))
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

            waits.until(lambda: len(guards()) == 1)
            [first] = guards()
            os.kill(first, signal.SIGKILL)
            waits.until(lambda: guards() not in ([], [first]))
            own.kill()
            waits.until(lambda: not any(map(is_there, pids)), 20)
        finally:
            own.kill()
            for one in pids:
                if is_there(one):
                    os.kill(one, signal.SIGKILL)


def test_a_closed_console_disturbs_nobody(ours: Supervisor) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    ours.console = Console(writing)
    speaking = Process("speaking", ["sh", "-c", "while :; do echo hello; sleep 0.05; done"])
    ours.start(speaking)
    until(lambda: time.monotonic() - speaking.began > 0.3, ours)  # it has spoken a few times
    assert speaking.runs
    assert ours.stop([speaking], 10)
    os.close(writing)
