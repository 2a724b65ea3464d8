"""A Redis with little memory under full load, with deaths and a restart of everything: what clients see of it.

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
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import redis

from benchmarks import processes
from benchmarks.contenders import free_port
from benchmarks.panels import Panel, timeline
from benchmarks.picture import picture
from benchmarks.pressure import Notes, Pressure
from shared import keys
from shared.connection import connect
from shared.home import ROOT, http_ok
from shared.room import GROWTH_BYTES, URGENT_SECONDS

#: Seconds between two looks at the server.
SAMPLE_SECONDS = 0.25
#: Longest 503 in a row while something could be deleted, in seconds: the promise.
GOAL_SECONDS = 2.0
#: Share of the limit that may be in use.
OVER = 1.02
#: Seconds in which everything that was accepted has to end after the load.
SETTLE_SECONDS = 60.0
#: What was accepted so long before a server was killed may not be in its log yet (`appendfsync everysec`).
EVERYSEC_SECONDS = 2.0


@dataclass
class Sample:
    """What the server says of itself at a moment (Unix seconds). Sizes in bytes."""

    at: float
    used: int
    resident: int
    waiting: int
    #: Seconds since the oldest end of which everything is still there; 0 where there is none.
    oldest_end: float

    @property
    def reserved(self) -> int:
        """In use, or needed by what waits when it has ended."""
        return self.used + self.waiting * GROWTH_BYTES


@dataclass
class Sampler(threading.Thread):
    """Looks at the server all the time, and hears what ends."""

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
                        for id, *flat in json.loads(message["data"]):
                            self.notes.end(id, flat[flat.index("state") + 1])
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
    """A running `digitq up`, which can be killed with all that it has started, and started again."""

    def __init__(self, folder: Path, memory: str, workers: int) -> None:
        self.folder, self.port, self._workers = folder, free_port(), workers
        self.url, self.redis_url = f"http://127.0.0.1:{self.port}", f"unix://{folder}/redis/redis.sock"
        clean = {name: text for name, text in os.environ.items() if not name.startswith("DIGITQ_")}
        clean.pop("REDIS_URL", None)
        self._env = {**clean, "DIGITQ_STATE_DIR": str(folder), "DIGITQ_REDIS_MAXMEMORY": memory}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when a picture would be answered. Raises ClickException if it does not come to that."""
        command = [sys.executable, "-m", "digitq", "up", "--port", str(self.port), "--workers", str(self._workers)]
        with (self.folder / "up.log").open("ab") as log:
            self._process = subprocess.Popen(command, cwd=ROOT, env=self._env, stdout=log, stderr=log)
        end = time.monotonic() + 120
        while not http_ok(f"{self.url}/readyz"):
            if self._process.poll() is not None or time.monotonic() > end:
                raise click.ClickException((self.folder / "up.log").read_text()[-3000:])
            time.sleep(0.1)

    def kill_worker(self) -> None:
        """kill -9 to one worker: the process that computes."""
        assert self._process
        found = processes.groups(self._process.pid).get("worker", [])
        pids = [pid for pid in found if processes.rss_mb(pid) > 50]
        if pids:
            os.kill(random.choice(pids), signal.SIGKILL)

    def kill_all(self) -> None:
        """kill -9 to everything at once."""
        assert self._process
        for pids in processes.groups(self._process.pid).values():
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """As an operator does."""
        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill_all()


def play(up: Up, seconds: float, events: list[tuple[float, str]]) -> None:
    """Two deaths of workers and one restart of everything; notes when (Unix seconds)."""
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


def longest(spans: list[tuple[float, float]], where: list[tuple[float, float]]) -> float:
    """The longest part of a span that lies within one of the windows."""
    parts = [min(b, d) - max(a, c) for a, b in spans for c, d in where]
    return max([0.0, *parts])


def windows(samples: list[Sample], holds: Callable[[Sample], bool]) -> list[tuple[float, float]]:
    """From when to when something held, from look to look."""
    found: list[tuple[float, float]] = []
    for sample in samples:
        if not holds(sample):
            continue
        if found and sample.at - found[-1][1] < 3 * SAMPLE_SECONDS:
            found[-1] = (found[-1][0], sample.at)
        else:
            found.append((sample.at, sample.at))
    return found


def without(where: list[tuple[float, float]], away: tuple[float, float]) -> list[tuple[float, float]]:
    """The windows, less one."""
    parts = [part for a, b in where for part in ((a, min(b, away[0])), (max(a, away[1]), b))]
    return [(a, b) for a, b in parts if a < b]


def figures(
    notes: Notes, samples: list[Sample], events: list[tuple[float, str]], start: float, end: float
) -> dict[str, Any]:
    """What came of it. Seconds; bytes as MB (10^6)."""
    killed, ready = (next(at for at, name in events if name == which) for which in ("all killed", "ready"))
    away = (killed, ready)
    load = without([(start, end)], away)
    freeable = without(windows(samples, lambda sample: sample.oldest_end > URGENT_SECONDS), away)
    runs = [(run.first, run.last) for run in notes.runs]
    times = sorted([start, *(at for at in notes.accepted.values() if at < end), end])
    gaps = [(a, b) for a, b in pairwise(times) if any(a < at < b for at in notes.refused)]
    unended = [id for id in notes.accepted if id not in notes.ended]
    early = lambda id: not killed - EVERYSEC_SECONDS <= notes.accepted[id] <= ready  # noqa: E731
    lost = [id for id in unended if early(id)]
    seconds = sum(b - a for a, b in load)
    return {
        "accepted": len(notes.accepted), "ended": sum(id in notes.ended for id in notes.accepted),
        "states": dict(notes.states), "read_too_late": dict(notes.missed),
        "never_ended": len(lost), "never_ended_near_the_kill": len(unended) - len(lost),
        "answers": dict(notes.answers), "reasons": dict(notes.reasons),
        "accepted_per_s": round(len(notes.accepted) / seconds, 1),
        "refused_share": round(len(notes.refused) / max(1, sum(notes.answers.values())), 4),
        "longest_503_of_a_client_s": round(longest(runs, load), 2),
        "longest_503_of_a_client_while_something_could_go_s": round(longest(runs, freeable), 2),
        "most_503_in_a_row": max((run.count for run in notes.runs), default=0),
        "longest_without_a_202_s": round(longest(gaps, load), 2),
        "longest_without_a_202_while_something_could_go_s": round(longest(gaps, freeable), 2),
        "most_used_mb": round(max(one.used for one in samples) / 1e6, 1),
        "most_reserved_mb": round(max(one.reserved for one in samples) / 1e6, 1),
        "most_resident_mb": round(max(one.resident for one in samples) / 1e6, 1),
        "most_waiting": max(one.waiting for one in samples),
        "restart_s": round(ready - killed, 1),
    }  # fmt: skip


def broken(result: dict[str, Any], limit: int) -> list[str]:
    """Promises that were not kept."""
    promised = [name for name in result if name.endswith("could_go_s")]
    return [
        *([f"{result['never_ended']} were accepted and never ended"] if result["never_ended"] else []),
        *([f"states {result['states']}"] if set(result["states"]) - {"succeeded"} else []),
        *(f"{name}: {result[name]}" for name in promised if result[name] > GOAL_SECONDS),
        *(["more memory was used than allowed"] if result["most_used_mb"] * 1e6 > OVER * limit else []),
        *(["memory was never full"] if result["most_reserved_mb"] * 1e6 < 0.85 * limit else []),
    ]


def drawn(
    notes: Notes, samples: list[Sample], events: list[tuple[float, str]], start: float, end: float, limit: int
) -> str:
    """The run as a picture."""

    def per_second(times: list[float]) -> list[tuple[float, float]]:
        counts = [0] * (int(end - start) + 1)
        for at in times:
            if start <= at < end:
                counts[int(at - start)] += 1
        return [(second + 0.5, float(count)) for second, count in enumerate(counts)]

    def over(value: Callable[[Sample], float]) -> list[tuple[float, float]]:
        return [(one.at - start, value(one)) for one in samples if one.at < end]

    panels = [
        Panel("Pictures per second", {"accepted": per_second(list(notes.accepted.values())),
                                      "ended": per_second(list(notes.ended.values()))}, {}),
        Panel("503 answers per second", {"503": per_second(notes.refused)}, {}),
        Panel("Redis, MB", {"used": over(lambda one: one.used / 1e6),
                            "with what waits": over(lambda one: one.reserved / 1e6),
                            "resident": over(lambda one: one.resident / 1e6)},
              {"maxmemory": limit / 1e6}),
        Panel("Pictures that wait", {"queued": over(lambda one: one.waiting)}, {}),
        Panel("Age of the oldest end that is kept, s", {"oldest": over(lambda one: one.oldest_end)},
              {"kept at least": URGENT_SECONDS}),
    ]  # fmt: skip
    shown = [(at - start, name) for at, name in events]
    return timeline(f"Full load at {limit / 2**20:.0f} MB", panels, shown, end - start)


def bodies() -> list[bytes]:
    """Recorded digits, and one in twenty as large as a scan."""
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
