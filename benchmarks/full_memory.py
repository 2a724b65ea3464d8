"""Loads a Redis with little memory, with worker deaths and a restart of everything, as seen by clients.

    python -m benchmarks.full_memory --out var/full-memory    two minutes at 64 MB; exit code 1 if a promise breaks

`digitq up` runs with two workers and its own server. Clients upload as fast as they are answered. After a quarter and
after half of the time a worker is killed; after three quarters everything is killed at once and started again. The
report has the figures, and `full_memory.svg` the rates and the memory over time.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import click
import redis

from benchmarks import processes
from benchmarks.contenders import free_port
from benchmarks.memory_report import SAMPLE_SECONDS, Sample, broken, drawn, figures
from benchmarks.picture import picture
from benchmarks.pressure import Notes, Pressure
from shared import ROOT, keys
from shared.connections.connection import connect
from shared.record import ends, state_of
from shared.standalone.up import http_ok

#: Seconds after the load in which all accepted pictures must finish.
SETTLE_SECONDS = 60.0


@dataclass
class Sampler(threading.Thread):
    """Samples the server, and listens to events."""

    url: str
    notes: Notes
    samples: list[Sample] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)
        self._stop_event = threading.Event()

    def __hash__(self) -> int:
        return id(self)

    def run(self) -> None:
        threading.Thread(target=self._hear, daemon=True).start()
        client = connect(self.url, timeout=2)
        while not self._stop_event.wait(SAMPLE_SECONDS):
            with suppress(redis.RedisError, OSError):
                self.samples.append(_sample(client))

    def _hear(self) -> None:
        while not self._stop_event.is_set():
            with suppress(redis.RedisError, OSError), connect(self.url, timeout=5) as client, client.pubsub() as pubsub:
                pubsub.subscribe(keys.EVENTS)
                while not self._stop_event.is_set():
                    message = pubsub.get_message(timeout=1)
                    if message and message["type"] == "message":
                        for record in ends(message["data"]):
                            self.notes.end(record["id"], state_of(record)[0].value)
            time.sleep(SAMPLE_SECONDS)

    def stop(self) -> None:
        self._stop_event.set()
        self.join()


def _sample(client: redis.Redis) -> Sample:
    with client.pipeline(transaction=False) as pipeline:
        pipeline.info("memory")
        for queue in keys.QUEUES:
            pipeline.llen(keys.queue(queue))
        pipeline.xrange("digitq:ended", "-", "+", 1)
        memory, *lengths, oldest = pipeline.execute()
    since = time.time() - int(oldest[0][0].split(b"-")[0]) / 1000 if oldest else 0.0
    return Sample(time.time(), memory["used_memory"], memory["used_memory_rss"], sum(lengths), since)


class Up:
    """A running `digitq up`, which can be killed with all its processes and restarted."""

    def __init__(self, folder: Path, memory: str, workers: int) -> None:
        self.folder, self.port, self._workers = folder, free_port(), workers
        self.url, self.redis_url = f"http://127.0.0.1:{self.port}", f"unix://{folder}/redis/redis.sock"
        clean = {name: text for name, text in os.environ.items() if not name.startswith("DIGITQ_")}
        clean.pop("REDIS_URL", None)
        self._env = {**clean, "DIGITQ_STATE_DIR": str(folder), "DIGITQ_REDIS_MAXMEMORY": memory}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Wait until uploads are accepted. Raises ClickException after a timeout."""
        command = [sys.executable, "-m", "digitq", "up", "--port", str(self.port), "--workers", str(self._workers)]
        with (self.folder / "up.log").open("ab") as log:
            self._process = subprocess.Popen(command, cwd=ROOT, env=self._env, stdout=log, stderr=log)
        end = time.monotonic() + 120
        while not http_ok(f"{self.url}/readyz"):
            if self._process.poll() is not None or time.monotonic() > end:
                raise click.ClickException((self.folder / "up.log").read_text()[-3000:])
            time.sleep(0.1)

    def kill_worker(self) -> None:
        """Kills one worker process with SIGKILL."""
        assert self._process
        found = processes.groups(self._process.pid).get("worker", [])
        pids = [pid for pid in found if processes.rss_mb(pid) > 50]
        if pids:
            os.kill(random.choice(pids), signal.SIGKILL)

    def kill_all(self) -> None:
        """Kills all processes with SIGKILL."""
        assert self._process
        for pids in processes.groups(self._process.pid).values():
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """Stop it gracefully."""
        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill_all()


def play(up: Up, seconds: float, events: list[tuple[float, str]]) -> None:
    """Kills two workers and restarts everything; records the times (Unix seconds)."""
    start = time.time()

    def at(share: float, name: str, action: Callable[[], None]) -> None:
        time.sleep(max(0.0, start + share * seconds - time.time()))
        events.append((time.time(), name))
        action()

    at(0.25, "worker killed", up.kill_worker)
    at(0.50, "worker killed", up.kill_worker)
    at(0.75, "all killed", up.kill_all)
    up.start()
    events.append((time.time(), "ready"))


def bodies() -> list[bytes]:
    """Return golden digits, one in twenty as large as a scan."""
    from benchmarks.overload import large

    return [picture()[0]] * 19 + [large()]


@click.command()
@click.option("--seconds", default=120.0, show_default=True)
@click.option("--memory", default=64, show_default=True, help="MB (2^20 bytes) that the server may use")
@click.option("--clients", default=48, show_default=True)
@click.option("--workers", default=2, show_default=True)
@click.option("--small", is_flag=True, help="Only pictures of a few hundred bytes")
@click.option("--out", type=click.Path(path_type=Path), default=Path("var/full-memory"), show_default=True)
def main(seconds: float, memory: int, clients: int, workers: int, small: bool, out: Path) -> None:
    notes, events, limit = Notes(), [], memory * 2**20  # type: tuple[Notes, list[tuple[float, str]], int]
    with tempfile.TemporaryDirectory(prefix="digitq-") as folder:
        up = Up(Path(folder), f"{memory}mb", workers)
        try:
            up.start()
            sampler = Sampler(up.redis_url, notes)
            sampler.start()
            pressure = Pressure(up.url, [picture()[0]] if small else bodies(), notes)
            start = time.time()

            async def everything() -> None:
                playing = asyncio.create_task(asyncio.to_thread(play, up, seconds, events))
                await pressure.press(clients, seconds)
                events.append((time.time(), "load ends"))
                await playing

            asyncio.run(everything())
            end = time.time()
            settled = time.monotonic() + SETTLE_SECONDS
            while sampler.samples[-1].waiting and time.monotonic() < settled:
                time.sleep(SAMPLE_SECONDS)
            asyncio.run(pressure.look([id for id in notes.accepted if id not in notes.ended]))
            sampler.stop()
        finally:
            up.stop()
        out.mkdir(parents=True, exist_ok=True)
        (out / "up.log").write_bytes((Path(folder) / "up.log").read_bytes())
    result = figures(notes, sampler.samples, events, start, end)
    result["broken"] = broken(result, limit)
    (out / "full_memory.svg").write_text(drawn(notes, sampler.samples, events, start, end, limit))
    (out / "full_memory.json").write_text(json.dumps({**result, "samples": [asdict(one) for one in sampler.samples]}))
    click.echo(json.dumps(result, indent=2))
    sys.exit(bool(result["broken"]))


if __name__ == "__main__":
    main()
