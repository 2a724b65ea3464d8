"""Kills child processes when the process that started them is killed, so that none is left behind."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
#: Takes process groups as arguments and reads newer lists, one a line; kills those of the last list at end of input.
_GUARD = """
trap '' INT TERM HUP
groups=$*
while read -r line; do groups=$line; done
for group in $groups; do kill -s KILL -- "-$group" 2>/dev/null; done
"""


def before_exec() -> Callable[[], None] | None:
    """Return a `preexec_fn` that makes the kernel kill a child when this process ends; None except on Linux.

    The kernel watches the thread that starts the child, so that must be the main thread.
    """
    if sys.platform != "linux":
        return None
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def request_kill() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # the parent ended before the call
            os._exit(1)

    return request_kill


class Guard:
    """A shell that kills the children's process groups when this process ends, for systems without PDEATHSIG.

    It reads a pipe whose only write end is here: the end of input means that this process has ended.
    """

    def __init__(self) -> None:
        self._shell: subprocess.Popen[bytes] | None = None
        self._groups: Sequence[int] = ()

    def watch(self, groups: Sequence[int]) -> None:
        """Set the process groups to kill. Starts another shell if the last one was killed."""
        words = [str(group) for group in groups]
        if self._shell is None or self._shell.poll() is not None:
            command = ["sh", "-c", _GUARD, "guard", *words]
            self._shell = subprocess.Popen(command, stdin=subprocess.PIPE, process_group=0)
        elif groups != self._groups:
            assert self._shell.stdin
            with contextlib.suppress(OSError):  # killed just now: the next call starts another
                os.write(self._shell.stdin.fileno(), " ".join(words).encode() + b"\n")
        self._groups = groups

    def close(self) -> None:
        """End the shell without killing anything."""
        self.watch(())
        if self._shell:
            self._shell.communicate()
