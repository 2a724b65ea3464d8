"""Child processes that are restarted when they die, and that can be stopped, continued and killed."""

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

#: Seconds that processes get for a graceful stop.
STOP_SECONDS = 10
#: Seconds between two checks for dead processes, and before a restart.
LOOK_SECONDS, PAUSE_SECONDS = 0.05, 0.3


class Child:
    """One process, in its own process group together with its children."""

    def __init__(self, name: str, command: Sequence[str], env: Mapping[str, str], folder: Path) -> None:
        self.name, self._command, self._env, self._folder = name, command, env, folder
        self.log = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._groups: list[int] = []
        self._not_before = 0.0
        #: Exit codes of deaths that were not injected.
        self.deaths: list[int] = []

    @property
    def pid(self) -> int:
        """Process id; 0 while no process runs."""
        return self._process.pid if self._process and self._process.poll() is None else 0

    def tend(self) -> None:
        """Starts the process if it does not run; called periodically by the owning thread."""
        if self.pid or time.monotonic() < self._not_before:
            return
        if self._process and not self._not_before:  # died without being killed: recorded, and restarted a little later
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
        """Returns live processes in the groups of all its starts: a dead process may leave children behind."""
        return sorted(pid for pid, _ in self._left())

    def orphans(self) -> list[int]:
        """Returns live processes that earlier starts have left behind."""
        return sorted(pid for pid, group in self._left() if group != self.pid)

    def _left(self) -> Iterator[tuple[int, int]]:
        """Process and group."""
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                state, _, group = stat.read_text().rpartition(")")[2].split()[:3]
                if int(group) in self._groups and state != "Z":
                    yield int(stat.parent.name), int(group)

    def kill(self, down: float = PAUSE_SECONDS) -> None:
        """Kills it with SIGKILL; it is restarted after `down` seconds."""
        self._not_before = time.monotonic() + down
        if self._process and self.pid:
            self._process.kill()

    def kill_any(self, dice: random.Random) -> None:
        """Kills one of its processes with SIGKILL: the process itself or one of its children."""
        with contextlib.suppress(OSError, IndexError):
            victim = dice.choice(self.members())
            if victim == self.pid:
                self.kill()
            else:
                os.kill(victim, signal.SIGKILL)

    def wait_dead(self, pid: int, seconds: float = 5) -> None:
        """Waits until the process `pid` is gone."""
        end = time.monotonic() + seconds
        while self.pid == pid and time.monotonic() < end:
            time.sleep(0.005)

    def signal(self, number: int) -> None:
        """Sends a signal to its group, and to processes left behind by earlier starts."""
        for group in self._groups:
            with contextlib.suppress(OSError):
                os.killpg(group, number)


class Children:
    """Keeps children alive until told to stop, from one thread."""

    def __init__(self, folder: Path) -> None:
        self.all: list[Child] = []
        self._reaper = Reaper(folder)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="children", daemon=True)
        self._thread.start()

    def add(self, child: Child) -> Child:
        """Starts to keep a child alive."""
        self.all.append(child)
        return child

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_SECONDS):
            for child in self.all:
                child.tend()

    def close(self) -> None:
        """Stops all children, the last first, and kills those that do not stop in time."""
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
