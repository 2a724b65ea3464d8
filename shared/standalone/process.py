"""A supervised process: its command, its state, and the rules for restarts."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence

#: Exit statuses after which a restart is useless: wrong usage or settings, a refused model.
FINAL = (2, 78)
#: A process that fails this often in a row, within this many seconds of each start, is not restarted.
MOST_FAILURES, QUICK_SECONDS = 5, 3.0
#: Back-off in seconds: the first pause, doubled with each further failure, and its limit.
FIRST_PAUSE, LONGEST_PAUSE = 0.3, 10.0
#: Seconds of running after which earlier failures no longer count.
SETTLED_SECONDS = 60.0


class Process:
    """A command to keep running, in its own process group. With `keep` it is restarted even after SIGTERM."""

    def __init__(
        self, name: str, command: Sequence[str], env: Mapping[str, str] | None = None, *, keep: bool = False,
        pass_fds: Sequence[int] = (),
    ) -> None:  # fmt: skip
        self.name, self.command, self.env, self.keep, self.pass_fds = name, command, env, keep, pass_fds
        #: Final exit status; 0 if an operator stopped it, None while it is to run.
        self.code: int | None = None
        #: Failures in a row: ends that were not SIGKILL, SIGTERM or status 0, within a minute of the start.
        self.failures = 0
        self.wanted = False
        self.child: subprocess.Popen[bytes] | None = None
        self.unfinished = b""
        self.quick = 0
        self.began = self.due = 0.0

    @property
    def runs(self) -> bool:
        """True if it was started and the supervisor has not noticed an exit."""
        return self.child is not None

    def signal_group(self, number: int) -> None:
        """Send a signal to the process and its descendants, even if the process itself has exited."""
        if self.child:
            with contextlib.suppress(OSError):
                os.killpg(self.child.pid, number)

    def restart_or_give_up(self, code: int) -> str:
        """Decide after an exit whether and when to restart; return the line to log."""
        lived = time.monotonic() - self.began
        failed = code not in (0, -signal.SIGTERM, -signal.SIGKILL)
        self.failures = 0 if lived > SETTLED_SECONDS or not failed else self.failures + 1
        self.quick = self.quick + 1 if failed and lived < QUICK_SECONDS else 0
        if not self.wanted:
            return ""
        if not self.keep and code in (0, -signal.SIGTERM):
            self.code = 0
            return "was stopped, it is not started again"
        if (code in FINAL and not self.keep) or self.quick >= MOST_FAILURES:
            self.code = code
            return f"does not start, giving up (exit status {code})"
        pause = min(FIRST_PAUSE * 2.0 ** max(0, self.failures - 1), LONGEST_PAUSE)
        self.due = time.monotonic() + pause
        how = f"ended with {code}" if code >= 0 else f"was ended by signal {-code}"
        return f"{how}, starting it again" + (f" in {pause:.0f} s" if pause >= 1 else "")
