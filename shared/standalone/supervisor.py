"""Supervises processes: forwards their output, restarts those that die, and stops them."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence

from shared.standalone import lifeline
from shared.standalone.console import Console

#: Exit statuses that a restart would not change: wrong usage or settings, and a refused model.
FINAL = (2, 78)
#: A process that fails this often in a row, each time within this many seconds of its start, is given up.
MOST_FAILURES, QUICK_SECONDS = 5, 3.0
#: Back-off in seconds: the first pause, doubled with each further failure, and its limit.
FIRST_PAUSE, LONGEST_PAUSE = 0.3, 10.0
#: Seconds of running after which earlier failures no longer count.
SETTLED_SECONDS = 60.0
#: Seconds to wait for the kernel to end a process after SIGKILL.
KILL_SECONDS = 5.0
_READ_BYTES = 65_536


class Process:
    """A command to keep running, in a process group of its own. With `keep` it is restarted even after SIGTERM."""

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
        """True from a start until the supervisor has noticed the exit."""
        return self.child is not None

    def signal_group(self, number: int) -> None:
        """Sends a signal to the process and its descendants, even if the process itself has exited."""
        if self.child:
            with contextlib.suppress(OSError):
                os.killpg(self.child.pid, number)

    def judge(self, code: int) -> str:
        """Decides after an exit whether and when to restart, and returns the line to log."""
        lived = time.monotonic() - self.began
        by_itself = code not in (0, -signal.SIGTERM, -signal.SIGKILL)
        self.failures = 0 if lived > SETTLED_SECONDS or not by_itself else self.failures + 1
        self.quick = self.quick + 1 if by_itself and lived < QUICK_SECONDS else 0
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


class Supervisor:
    """Keeps processes running from a single thread: everything happens in `tend` and `stop`.

    The children are killed if this process is killed. `parent` is a process id whose end sets `stopping`; 0 for none.
    """

    def __init__(self, console: Console, parent: int = 0) -> None:
        self.console = console
        #: True once a signal or the end of the parent asks for a shutdown.
        self.stopping = False
        #: True once Ctrl-C was pressed again: `stop` then waits no longer.
        self.hurried = False
        self._parent = parent
        self._processes: list[Process] = []
        self._selector = selectors.DefaultSelector()
        self._before_exec = lifeline.before_exec()
        self._guard = None if self._before_exec else lifeline.Guard()

    def stop_on_signals(self) -> None:
        """Installs handlers for SIGINT, SIGTERM and SIGHUP that set `stopping`; a later SIGINT sets `hurried`."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # as `nohup` wants it
                signal.signal(number, self._told)

    def _told(self, number: int, _: object) -> None:
        self.hurried = self.stopping and number == signal.SIGINT
        self.stopping = True

    def say(self, text: str) -> None:
        """Logs a line of the supervisor itself."""
        self.console.line("up", text.encode())

    def start(self, process: Process) -> None:
        """Starts a process; from now on `tend` restarts it."""
        process.wanted = True
        self._processes.append(process)
        self._start(process)

    def tend(self, seconds: float) -> None:
        """Waits for output for at most `seconds`, forwards it, and handles exits and restarts."""
        for key, _ in self._selector.select(seconds):
            self._pass_on(key.data)
        self.console.flush()
        for process in self._processes:
            if process.child and process.child.poll() is not None:
                self._bury(process)
            if process.wanted and not process.runs and process.code is None and time.monotonic() >= process.due:
                self._start(process)
        if self._parent and os.getppid() != self._parent:
            self.stopping = True
        self._watch()

    def stop(self, processes: Sequence[Process], seconds: float) -> bool:
        """Sends SIGTERM, and SIGKILL to those that still run after `seconds`, or after another Ctrl-C.

        Returns True if none had to be killed.
        """
        self.hurried = False
        for process in processes:
            process.wanted = False
            if process.child:
                process.child.terminate()
        self._tend_while_running(processes, seconds, hurries=True)
        late = [process for process in processes if process.runs]
        for process in late:
            self.say(
                f"{process.name} has not stopped {'yet' if self.hurried else f'within {seconds:.0f} s'}, it is killed"
            )
            process.signal_group(signal.SIGKILL)
        self._tend_while_running(late, KILL_SECONDS)
        return not late

    def close(self) -> None:
        """Writes the last output. To be called after all processes have been stopped."""
        if self._guard:
            self._guard.close()
        self._selector.close()
        self.console.close()

    def _tend_while_running(self, processes: Sequence[Process], seconds: float, hurries: bool = False) -> None:
        end = time.monotonic() + seconds
        while any(process.runs for process in processes) and time.monotonic() < end and not (hurries and self.hurried):
            self.tend(0.1)

    def _start(self, process: Process) -> None:
        process.began = time.monotonic()
        try:
            child = subprocess.Popen(
                process.command, env=process.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, process_group=0, pass_fds=process.pass_fds, preexec_fn=self._before_exec,
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError) as error:  # no memory, no processes left: as if it had failed
            self.say(f"{process.name}: {error}")
            self.say(f"{process.name} {process.judge(1)}")
            return
        process.child = child
        assert child.stdout
        os.set_blocking(child.stdout.fileno(), False)
        self._selector.register(child.stdout, selectors.EVENT_READ, process)
        self._watch()

    def _watch(self) -> None:
        if self._guard:
            self._guard.watch([process.child.pid for process in self._processes if process.child])

    def _pass_on(self, process: Process) -> bool:
        """Forwards one read of a process's output. Returns False if there was nothing to read."""
        assert process.child and process.child.stdout
        try:
            data = os.read(process.child.stdout.fileno(), _READ_BYTES)
        except OSError:
            return False
        if not data:
            with contextlib.suppress(KeyError):
                self._selector.unregister(process.child.stdout)
            return False
        *lines, process.unfinished = (process.unfinished + data).split(b"\n")
        for line in lines:
            self.console.line(process.name, line)
        if len(process.unfinished) > _READ_BYTES:
            self.console.line(process.name, process.unfinished)
            process.unfinished = b""
        return True

    def _bury(self, process: Process) -> None:
        """Kills the descendants of an exited process, forwards its last output, and schedules a restart if due."""
        assert process.child and process.child.stdout
        process.signal_group(signal.SIGKILL)
        for _ in range(100):
            if not self._pass_on(process):
                break
        if process.unfinished:
            self.console.line(process.name, process.unfinished)
        process.unfinished = b""
        with contextlib.suppress(KeyError):
            self._selector.unregister(process.child.stdout)
        process.child.stdout.close()
        code, process.child = process.child.returncode, None
        if said := process.judge(code):
            self.say(f"{process.name} {said}")
