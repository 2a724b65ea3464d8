"""Kills the processes of a run if the run itself is killed: it waits for the end of its stdin.

python -m verify.reaper FOLDER
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from shared import ROOT

#: The message at a regular end.
DONE = b"done"
#: Seconds without a process in the folder until it counts as empty: a forked process enters it a little later.
CALM_SECONDS = 0.3


class Reaper:
    """A helper process that outlives the run to clean up."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", __name__, str(folder)]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, start_new_session=True)

    def close(self) -> None:
        """Lets it kill the remaining processes, and waits until it is done."""
        self._process.communicate(DONE)


def main(folder: Path) -> None:
    """Wait until the run ends or is killed, then kill its processes."""
    orderly = sys.stdin.read() == DONE.decode()
    patience = 0.0 if orderly else CALM_SECONDS
    end = time.monotonic() + patience
    while (left := list(_working_in(folder.resolve()))) or time.monotonic() < end:
        for pid in left:
            end = time.monotonic() + patience
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    if not orderly:
        shutil.rmtree(folder, ignore_errors=True)


def _working_in(folder: Path) -> Iterator[int]:
    """Return the processes whose working directory is in the folder of the run."""
    for proc in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (proc / "cwd").readlink().is_relative_to(folder):
                yield int(proc.name)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
