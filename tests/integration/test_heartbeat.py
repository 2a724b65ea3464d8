"""When a heartbeat gives its worker up, and when it does not. Each in a process of its own, which it may end."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

from shared import ROOT
from worker.queue.heartbeat import HUNG

#: Two seconds of work in four steps, in a batch that may take three; a beat each second.
WORK = """
import time
from shared.settings import Settings
from shared.store import Store, connect
from worker.queue import heartbeat

heartbeat.GRACE_SECONDS = 0
thread = heartbeat.Heartbeat(Store(connect("redis://127.0.0.1:1"), Settings(lease_seconds=3)), "one", "", lambda: None)
thread.start()
print("working", flush=True)
with thread.holding([], 3):
    for _ in range(STEPS):
        time.sleep(0.5)
thread.stop()
"""


def working(steps: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", WORK.replace("STEPS", str(steps))]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout
    process.stdout.readline()
    return process


def test_a_batch_that_takes_too_long_ends_its_worker() -> None:
    with working(steps=120) as process:
        assert process.wait(timeout=30) == HUNG


def test_a_batch_whose_machine_was_paused_may_go_on() -> None:
    with working(steps=4) as process:
        process.send_signal(signal.SIGSTOP)
        time.sleep(4)  # longer than the lease
        process.send_signal(signal.SIGCONT)
        assert process.wait(timeout=30) == 0


def test_a_heartbeat_that_was_stopped_leaves_no_watch_behind() -> None:
    late = """
import faulthandler, time
from shared.settings import Settings
from shared.store import Store, connect
from worker.queue import heartbeat

heartbeat.LOCKED_SECONDS = 0.5
heartbeat.alive = lambda: time.sleep(3)  # a disk that is slow to take the sign of life
store = Store(connect("redis://127.0.0.1:1"), Settings(lease_seconds=0.3))
thread = heartbeat.Heartbeat(store, "one", "", lambda: None)
thread.start()
time.sleep(0.3)
thread.stop()
time.sleep(3)
"""
    done = subprocess.run([sys.executable, "-c", late], cwd=ROOT, capture_output=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr


def test_an_interpreter_that_is_locked_ends_with_its_process() -> None:
    """Native code that never returns and holds the GIL: no thread of Python's can end it."""
    locked = """
import ctypes
from shared.settings import Settings
from shared.store import Store, connect
from worker.queue import heartbeat

heartbeat.LOCKED_SECONDS = 1.0
heartbeat.Heartbeat(Store(connect("redis://127.0.0.1:1"), Settings()), "one", "", lambda: None).start()
ctypes.PyDLL(None).sleep(20)
"""
    done = subprocess.run([sys.executable, "-c", locked], cwd=ROOT, capture_output=True, timeout=30, check=False)
    assert done.returncode == 1
    assert b"Timeout (0:00:01)!" in done.stderr
