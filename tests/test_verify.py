"""`digitq verify` on real stacks: green on what keeps its promises; see test_verify_broken for the rest."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from shared import ROOT
from tests.stack import Stack
from tests.waits import until

pytestmark = pytest.mark.timeout(1000)

FAST = {"DIGITQ_LEASE_SECONDS": "1"}
#: What keeps every promise may take its time where the machine has much else to do.
PATIENT = ("--no-limits", "--patience", "120")


def verify(tmp_path: Path, env: dict[str, str], *words: str) -> tuple[int, dict[str, Any]]:
    """Exit code and report of a run that leaves nothing behind."""
    (tmp_path / "t").mkdir()
    out = tmp_path / "report.json"
    command = [sys.executable, "-m", "digitq", "verify", "--seed", "1", "--seconds", "1", "--json", str(out), *words]
    env = {name: value for name, value in env.items() if name != "REDIS_URL"} | FAST | {"TMPDIR": str(tmp_path / "t")}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=900)
    print(done.stdout, done.stderr)
    assert list((tmp_path / "t").iterdir()) == []
    return done.returncode, json.loads(out.read_text())


def test_the_real_worker_keeps_every_promise(tmp_path: Path, lean_env: dict[str, str]) -> None:
    faults = "kill+redis-full,full,pause,redis-kill,pause+cut,kill+slow-clients"
    code, report = verify(tmp_path, lean_env, "--faults", faults, *PATIENT)
    assert (code, report["findings"]) == (0, [])
    ends = [report[end] for end in ("succeeded", "failed", "cancelled", "expired", "evicted", "lost_declared")]
    assert report["accepted"] == sum(ends) > 50
    assert set(report["faults"]) == set(faults.split(","))
    assert report["seen"]["refused"] > 0


def test_deaf_connections_and_an_evicting_policy_are_overcome(tmp_path: Path, lean_env: dict[str, str]) -> None:
    faults = "deaf,evict,kill+deaf"
    code, report = verify(tmp_path, lean_env, "--faults", faults, *PATIENT)
    assert (code, report["findings"]) == (0, [])
    assert set(report["faults"]) == set(faults.split(","))


def test_another_primary_has_all_that_was_accepted(tmp_path: Path, lean_env: dict[str, str]) -> None:
    code, report = verify(tmp_path, lean_env, "--faults", "failover,kill+demote", *PATIENT)
    assert (code, report["findings"], set(report["faults"])) == (0, [], {"failover", "kill+demote"})
    assert report["succeeded"] > 20


def test_a_running_deployment_is_checked_and_not_broken(stack: Stack, tmp_path: Path, cli_env: dict[str, str]) -> None:
    pids, accepted = stack.pids(), 0
    for seconds in ("1", "5", "25"):  # a busy machine may accept little in one
        (folder := tmp_path / seconds).mkdir()
        code, report = verify(folder, cli_env, "--url", stack.url, "--redis", stack.redis_url, "--seconds", seconds)
        assert (code, report["findings"], report["injections"]) == (0, [], [])
        accepted += report["accepted"]
        if accepted > 5:
            break
    assert accepted > 5
    assert stack.pids() == pids


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_cut_short_leaves_nothing_behind(
    number: signal.Signals, tmp_path: Path, lean_env: dict[str, str]
) -> None:
    env = {name: value for name, value in lean_env.items() if name != "REDIS_URL"} | {"TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "digitq", "verify", "--faults", "none"]
    process = subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.DEVNULL)
    until(lambda: any(tmp_path.glob("dqv-*/worker-2.log")), 30)
    [folder] = tmp_path.glob("dqv-*")
    process.send_signal(number)
    assert process.wait(60) != 0
    until(lambda: list(tmp_path.iterdir()) == [], 5)
    until(lambda: not any(works_in(proc, folder) for proc in Path("/proc").glob("[0-9]*")), 5)


def works_in(proc: Path, folder: Path) -> bool:
    with suppress(OSError):
        return (proc / "cwd").readlink().name.startswith(folder.name)
    return False


def test_an_unknown_fault_is_a_usage_error(cli_env: dict[str, str]) -> None:
    command = [sys.executable, "-m", "digitq", "verify", "--faults", "kill,meteor"]
    done = subprocess.run(command, cwd=ROOT, env=cli_env, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "meteor" in done.stderr
