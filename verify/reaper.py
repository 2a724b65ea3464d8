"""Stops what a run has started if the run itself is killed: it waits for the end of its stdin, which ends with the run.

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

#: What is said at an orderly end.
DONE = b"done"
#: Seconds without a process in the folder before it counts as empty: one that was just forked is not in it yet.
CALM_SECONDS = 0.3


class Reaper:
    """A process beside ours, which outlives us just long enough."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "verify.reaper", str(folder)]
        self._process = subprocess.Popen(
            command, cwd=Path(__file__).parent.parent, stdin=subprocess.PIPE, start_new_session=True
        )

    def close(self) -> None:
        """Has it kill whatever is left; the folder is ours again."""
        self._process.communicate(DONE)


def main(folder: Path) -> None:
    """Waits for whoever started us to say that it is done, or to be gone."""
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
    """Every process of a run works in its folder, or in one under it, from its first moment on."""
    for proc in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (proc / "cwd").readlink().is_relative_to(folder):
                yield int(proc.name)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
