"""The whole stack as a user starts it: `digitq up` in a process of its own."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from producer import Client
from shared import ROOT
from shared.standalone.up import http_ok

TAG = "DIGITQ_STATE_DIR"
#: Environment of workers that read with NumPy (tests/lean): they start in a sixth of the time. For every test that is
#: not about TensorFlow, a start of a worker, or what a user gets from beginning to end.
LEAN = {"PYTHONPATH": str(ROOT / "tests" / "lean"), "OPENBLAS_NUM_THREADS": "1"}


class Stack:
    """A running stack; every process of it carries the state directory in its environment."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, state_dir: Path) -> None:
        self.process, self.url, self.state_dir = process, url, state_dir
        self.redis_url = f"unix://{state_dir / 'redis' / 'redis.sock'}"

    def pids(self, word: str = "") -> list[int]:
        """Process of this stack whose command line has the word."""
        mark = f"{TAG}={self.state_dir}\0".encode()
        found = []
        for proc in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                command = (proc / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                # The server writes its title over its environment; its socket is in the title.
                ours = mark in (proc / "environ").read_bytes() or f"{self.state_dir}/redis" in command
                if ours and word in command:
                    found.append(int(proc.name))
        return found

    def kill(self, word: str) -> int:
        """kill -9 to one process whose command line has the word; returns its pid."""
        pid = random.choice(self.pids(word))
        os.kill(pid, signal.SIGKILL)
        return pid

    def wait_until_ready(self, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not http_ok(f"{self.url}/readyz"):
            assert time.monotonic() < end, "not ready"
            time.sleep(0.1)


@contextmanager
def client_of(url: str) -> Iterator[Client]:
    """An SDK client, closed in the end."""
    client = Client(url)
    try:
        yield client
    finally:
        client.close()


@contextmanager
def up(state_dir: Path, workers: int = 1, **env: str) -> Iterator[Stack]:
    """Start, wait for the ready line's condition, and stop with SIGTERM."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith("DIGITQ_") and name != "REDIS_URL"
    }
    digitq = [sys.executable, "-m", "digitq", "up", "--port", str(port), "--workers", str(workers)]
    log = (state_dir / "up.log").open("ab")
    process = subprocess.Popen(digitq, cwd=ROOT, env={**clean, TAG: str(state_dir), **env}, stdout=log, stderr=log)
    stack = Stack(process, f"http://127.0.0.1:{port}", state_dir)
    try:
        stack.wait_until_ready(120)
        yield stack
    except BaseException:
        sys.stderr.write((state_dir / "up.log").read_text()[-3000:])
        raise
    finally:
        log.close()
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            for pid in stack.pids():
                os.kill(pid, signal.SIGKILL)
            raise
