"""The servers to compare, each started with its own Redis and observed from outside."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import processes
from benchmarks.picture import picture
from benchmarks.servers.__main__ import PACKAGED, PACKAGES
from shared import ROOT
from shared.errors import DigitqError

TITLES = {
    "digitq": "digitq, 1 worker",
    "digitq2": "digitq, 2 workers",
    "rq": "Flask + RQ SimpleWorker",
    "celery": "Flask + Celery (solo)",
    "dramatiq": "Flask + dramatiq (8 threads)",
    "mosec": "mosec, 1 worker (plain decode, no queue on disk)",
    "inline": "Flask inline, 2 processes (plain decode, no queue)",
    "inline_preprocessing": "Flask inline, 2 processes (our preprocessing, no queue)",
    "url": "the server at --url",
}
#: Timeout of the first correct response in seconds.
START_SECONDS = 120
#: Below this share of a core a server has finished the previous load.
IDLE_SHARE = 0.1


class Broken(DigitqError):
    """A server gives no correct response; the text says why."""

    code, title, status = "no_answer", "Nothing to measure", 503


@dataclass(frozen=True)
class Server:
    """A running server: its URL and its root process (0: not started here)."""

    name: str
    url: str
    pid: int = 0
    headers: tuple[str, ...] = ()

    def cpu(self) -> dict[str, float]:
        """Return CPU seconds by process group; empty if unknown."""
        found = processes.groups(self.pid) if self.pid else {}
        return {name: processes.cpu_seconds(pids) for name, pids in found.items()}

    def memory(self) -> dict[str, float]:
        """Memory (PSS) in MB by group: the sum of its processes, the workers' divided by their number."""
        found = processes.groups(self.pid) if self.pid else {}
        sums = {name: [mb for pid in pids if (mb := processes.pss_mb(pid)) > 1] for name, pids in found.items()}
        return {name: sum(mb) / (len(mb) if name == "worker" else 1) for name, mb in sums.items() if mb}

    def settle(self, seconds: float = 20) -> None:
        """Wait until the previous load is finished."""
        end = time.monotonic() + seconds
        while self.pid and time.monotonic() < end:
            before = sum(self.cpu().values())
            time.sleep(0.25)
            if sum(self.cpu().values()) - before < IDLE_SHARE * 0.25:
                return


def free_port() -> int:
    """Return a free local port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def missing(name: str) -> str:
    """Return why a server cannot run here; empty if it can."""
    if name in PACKAGED and not (PACKAGES / name).is_dir():
        file = "requirements-mosec.txt" if name == "mosec" else "requirements.txt"
        return (
            f"{name} is not installed: `make bench` does it, or `.venv/bin/python -m pip install"
            f" --target {PACKAGES.relative_to(ROOT)} -r benchmarks/{file}`"
        )
    return ""


@contextmanager
def start(name: str, folder: Path) -> Iterator[Server]:
    """Start a server with its data in `folder`, and stop it with all its processes at the end.

    Raises Broken if it gives no correct response within two minutes.
    """
    port = free_port()
    folder.mkdir()
    env = {key: value for key, value in os.environ.items() if not key.startswith("DIGITQ_") and key != "REDIS_URL"}
    command = [sys.executable, "-m", "benchmarks.servers", name, str(port), str(folder)]
    with (folder / "log").open("wb") as log:
        # Its own session: Ctrl-C reaches only this process, which stops it gracefully.
        process = subprocess.Popen(
            command, cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
        )
    try:
        server = Server(name, f"http://127.0.0.1:{port}", process.pid)
        _wait_for(server, process, folder / "log")
        yield server
    finally:
        assert process.stdin
        process.stdin.close()
        process.wait()


def _wait_for(server: Server, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while not _answers(server):
        if process.poll() is not None or time.monotonic() > end:
            raise Broken(f"{TITLES[server.name]} does not start:\n{log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.2)


def _answers(server: Server) -> bool:
    body, digit = picture()
    request = urllib.request.Request(f"{server.url}/v1/predictions", body, {"Content-Type": "image/png"})
    request.add_header("Prefer", "wait=20")
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return bool(json.load(response).get("digit") == digit)
    except (urllib.error.URLError, OSError, ValueError):
        return False
