"""Processes that are started again whenever they die, and that can be stopped, continued and killed."""

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

#: Seconds that the processes get to stop by themselves.
STOP_SECONDS = 10
#: Seconds between two looks for those that have died, and before one is started again.
LOOK_SECONDS, PAUSE_SECONDS = 0.05, 0.3


class Child:
    """One process, in a group of its own with whatever it starts itself."""

    def __init__(self, name: str, command: Sequence[str], env: Mapping[str, str], folder: Path) -> None:
        self.name, self._command, self._env, self._folder = name, command, env, folder
        self.log = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._groups: list[int] = []
        self._not_before = 0.0
        #: Exit codes of deaths that nobody asked for.
        self.deaths: list[int] = []

    @property
    def pid(self) -> int:
        """The process as it is now; 0 while there is none."""
        return self._process.pid if self._process and self._process.poll() is None else 0

    def tend(self) -> None:
        """Starts it if it is not there; called again and again by the thread that owns it."""
        if self.pid or time.monotonic() < self._not_before:
            return
        if self._process and not self._not_before:  # by itself: noted, and started again a little later
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
        """What runs of it now, in the groups of all its starts: a process that dies may leave others behind."""
        return sorted(pid for pid, _ in self._left())

    def orphans(self) -> list[int]:
        """What earlier starts have left behind, and still runs beside the present one."""
        return sorted(pid for pid, group in self._left() if group != self.pid)

    def _left(self) -> Iterator[tuple[int, int]]:
        """Process and group."""
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                state, _, group = stat.read_text().rpartition(")")[2].split()[:3]
                if int(group) in self._groups and state != "Z":
                    yield int(stat.parent.name), int(group)

    def kill(self, down: float = PAUSE_SECONDS) -> None:
        """kill -9; another is started after `down` seconds."""
        self._not_before = time.monotonic() + down
        if self._process and self.pid:
            self._process.kill()

    def kill_any(self, dice: random.Random) -> None:
        """kill -9 of one of its processes: itself, or one that it keeps itself."""
        with contextlib.suppress(OSError, IndexError):
            victim = dice.choice(self.members())
            if victim == self.pid:
                self.kill()
            else:
                os.kill(victim, signal.SIGKILL)

    def wait_dead(self, pid: int, seconds: float = 5) -> None:
        """Returns once the process `pid` is no longer this child's."""
        end = time.monotonic() + seconds
        while self.pid == pid and time.monotonic() < end:
            time.sleep(0.005)

    def signal(self, number: int) -> None:
        """Sends a signal to its group, and to what earlier starts may have left behind."""
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
        """From now on the child is kept alive."""
        self.all.append(child)
        return child

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_SECONDS):
            for child in self.all:
                child.tend()

    def close(self) -> None:
        """Stops all, the last first: those that do not want to are killed."""
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
