"""deploy/respawn at home: what it runs comes back, and goes when whoever started it is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from shared.home import ROOT

START = "deploy/respawn sleep 4321 & echo $!; wait"


def until(condition: Callable[[], bool], seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


def command(pid: int | str) -> str:
    """Empty for a process that has ended, whether or not anybody has asked how."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def below(pid: int) -> list[int]:
    """The `sleep 4321` that this process has started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(one) for one in children if command(one).startswith("sleep")]


def test_it_starts_again_what_was_killed_and_ends_when_its_parent_was() -> None:
    parent = subprocess.Popen(["sh", "-c", START], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    try:
        respawn = int(parent.stdout.readline())
        assert until(lambda: bool(below(respawn)))
        [first] = below(respawn)
        os.kill(first, signal.SIGKILL)
        assert until(lambda: below(respawn) not in ([], [first]))
        [second] = below(respawn)
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
    assert until(lambda: not command(respawn) and not command(second))
