"""Keeps processes running, restarts those that die, and stops, continues and kills them for faults."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from verify.reaper import Reaper

#: Seconds that the processes get to stop.
STOP_SECONDS = 10
#: Seconds between two checks for dead processes, and before a restart.
LOOK_SECONDS, PAUSE_SECONDS = 0.05, 0.3


class Child:
    """A process that is kept running, in its own process group."""

    def __init__(self, name: str, command: Sequence[str], env: Mapping[str, str], folder: Path) -> None:
        self.name, self._command, self._env, self._folder = name, command, env, folder
        self.log = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._groups: list[int] = []
        self._not_before = 0.0
        #: Exit codes of processes that died without having been killed.
        self.deaths: list[int] = []

    @property
    def pid(self) -> int:
        """The process id; 0 while the process does not run."""
        return self._process.pid if self._process and self._process.poll() is None else 0

    def tend(self) -> None:
        """Start it if it does not run; called periodically by the thread of `Children`."""
        if self.pid or time.monotonic() < self._not_before:
            return
        if self._process and not self._not_before:  # not killed by us: recorded, and restarted after a pause
            self.deaths.append(self._process.returncode)
            self._not_before = time.monotonic() + PAUSE_SECONDS
            return
        self._not_before = 0.0
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, cwd=self._folder, env=self._env, stdout=log, stderr=log, start_new_session=True
            )
        self._groups = [*{group for _, group in self._left()}, self._process.pid]

    def members(self) -> list[int]:
        """Return all running processes in the groups of all its starts: a process that dies may leave others."""
        return sorted(pid for pid, _ in self._left())

    def orphans(self) -> list[int]:
        """Return the running processes of earlier starts."""
        return sorted(pid for pid, group in self._left() if group != self.pid)

    def _left(self) -> Iterator[tuple[int, int]]:
        """Return process ids and their groups."""
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                state, _, group = stat.read_text().rpartition(")")[2].split()[:3]
                if int(group) in self._groups and state != "Z":
                    yield int(stat.parent.name), int(group)

    def kill(self, down: float = PAUSE_SECONDS) -> None:
        """Kill it with SIGKILL; it is restarted after `down` seconds."""
        self._not_before = time.monotonic() + down
        if self._process and self.pid:
            self._process.kill()

    def kill_any(self, dice: random.Random) -> None:
        """Kill it, or one of its own child processes, with SIGKILL."""
        with contextlib.suppress(OSError, IndexError):
            victim = dice.choice(self.members())
            if victim == self.pid:
                self.kill()
            else:
                os.kill(victim, signal.SIGKILL)

    def wait_dead(self, pid: int, seconds: float = 5) -> None:
        """Wait until the process `pid` has ended."""
        end = time.monotonic() + seconds
        while self.pid == pid and time.monotonic() < end:
            time.sleep(0.005)

    def signal(self, number: int) -> None:
        """Send a signal to its process group, and to processes left by earlier starts."""
        for group in self._groups:
            with contextlib.suppress(OSError):
                os.killpg(group, number)


class Children:
    """Restarts children that die, from one thread, until it is closed."""

    def __init__(self, folder: Path) -> None:
        self.all: list[Child] = []
        self._reaper = Reaper(folder)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="children", daemon=True)
        self._thread.start()

    def add(self, child: Child) -> Child:
        """Start the child, and restart it whenever it dies."""
        self.all.append(child)
        return child

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_SECONDS):
            for child in self.all:
                child.tend()

    def close(self) -> None:
        """Stop all, the last one first; kill those that do not stop."""
        self._stopping.set()
        self._thread.join()
        for child in reversed(self.all):
            child.signal(signal.SIGCONT)
            child.signal(signal.SIGTERM)
            end = time.monotonic() + STOP_SECONDS
            while (child.pid or child.members()) and time.monotonic() < end:
                time.sleep(0.05)
            child.signal(signal.SIGKILL)
        self._reaper.close()
