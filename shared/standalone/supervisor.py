"""Supervises processes: forwards their output, restarts those that die, and stops them."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Sequence

from shared.standalone import parent_death
from shared.standalone.console import Console
from shared.standalone.process import Process

#: Seconds to wait for the kernel to end a process after SIGKILL.
KILL_SECONDS = 5.0
_READ_BYTES = 65_536


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
        self._before_exec = parent_death.before_exec()
        self._guard = None if self._before_exec else parent_death.Guard()

    def stop_on_signals(self) -> None:
        """Handle SIGINT, SIGTERM and SIGHUP by setting `stopping`; a later SIGINT sets `hurried`."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # ignored under `nohup`
                signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, _: object) -> None:
        self.hurried = self.stopping and number == signal.SIGINT
        self.stopping = True

    def say(self, text: str) -> None:
        """Log a line of the supervisor itself."""
        self.console.say(text)

    def start(self, process: Process) -> None:
        """Start a process; from now on `tend` restarts it."""
        process.wanted = True
        self._processes.append(process)
        self._start(process)

    def tend(self, seconds: float) -> None:
        """Wait for output for at most `seconds`, forward it, and handle exits and restarts."""
        for key, _ in self._selector.select(seconds):
            self._forward(key.data)
        self.console.flush()
        for process in self._processes:
            if process.child and process.child.poll() is not None:
                self._clean_up(process)
            if process.wanted and not process.runs and process.code is None and time.monotonic() >= process.due:
                self._start(process)
        if self._parent and os.getppid() != self._parent:
            self.stopping = True
        self._watch()

    def stop(self, processes: Sequence[Process], seconds: float, told: str = "") -> bool:
        """Log what is told, send SIGTERM, and SIGKILL to those that still run after `seconds`, or after another Ctrl-C.

        Returns True if none had to be killed.
        """
        self.hurried = False  # a Ctrl-C counts from the moment on in which people can read that it does
        if told:
            self.say(told)
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
        """Write the last output. Call it after all processes have been stopped."""
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
        except (OSError, subprocess.SubprocessError) as error:  # out of memory or processes: counts as a failure
            self.say(f"{process.name}: {error}")
            self.say(f"{process.name} {process.restart_or_give_up(1)}")
            return
        process.child = child
        assert child.stdout
        os.set_blocking(child.stdout.fileno(), False)
        self._selector.register(child.stdout, selectors.EVENT_READ, process)
        self._watch()

    def _watch(self) -> None:
        if self._guard:
            self._guard.watch([process.child.pid for process in self._processes if process.child])

    def _forward(self, process: Process) -> bool:
        """Forward one read of a process's output; return False if there was nothing to read."""
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

    def _clean_up(self, process: Process) -> None:
        """Kill the descendants of an exited process, forward its last output, and schedule a restart."""
        assert process.child and process.child.stdout
        process.signal_group(signal.SIGKILL)
        for _ in range(100):
            if not self._forward(process):
                break
        if process.unfinished:
            self.console.line(process.name, process.unfinished)
        process.unfinished = b""
        with contextlib.suppress(KeyError):
            self._selector.unregister(process.child.stdout)
        process.child.stdout.close()
        code, process.child = process.child.returncode, None
        if line := process.restart_or_give_up(code):
            self.say(f"{process.name} {line}")
