"""Measures overload: latencies of accepted pictures, refusals, and memory, at three times the capacity.

    python -m benchmarks.overload                 a minute at three times the capacity; exit code 1 if a promise breaks

One worker reads large pictures, so that the worker is the bottleneck. Its capacity is measured first, alone, and with
three times as many arrivals: on a small machine refusing takes its share. The queue is then limited to the pictures
read in half of the promised time; the other half is for claimed ones. Arrivals are Poisson, one picture a client: a
refused client leaves, an accepted one waits for the end. A latency is from the intended sending to the end.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import click
from PIL import Image

from benchmarks import processes
from benchmarks.contenders import free_port
from benchmarks.crowd import Books, Crowd
from benchmarks.picture import picture
from producer import Queue
from shared import ROOT
from shared.settings import Settings
from shared.standalone.up import http_ok

#: Size of the pictures in pixels (10 ms of a core each), and the number of them that measures the capacity.
SIDE, PROBE = 800, 400
#: Seconds of measuring the capacity under overload.
TRIAL_SECONDS = 15.0
#: Small batches: a picture waits for everything claimed before it.
BATCH = 8
#: Seconds of retention: after that Redis holds no more than this many seconds of ended pictures.
TTL_SECONDS = 15
#: Seconds until memory is first measured, and length of both windows.
WARM_SECONDS, WINDOW_SECONDS = 25.0, 10.0
#: MB by which a process must grow to count as leaking: allocators and Redis's log vary by less.
GROWN_MB = 8.0


@contextmanager
def stack(**env: str) -> Iterator[tuple[str, int, Queue]]:
    """Start a temporary stack with one worker; return its URL, process and queue."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="digitq-") as folder:
        clean = {name: text for name, text in os.environ.items() if not name.startswith("DIGITQ_")} | env
        clean |= {"DIGITQ_STATE_DIR": folder, "DIGITQ_BATCH_MAX_SIZE": str(BATCH)}
        clean.pop("REDIS_URL", None)
        command = [sys.executable, "-m", "digitq", "up", "--port", str(port), "--workers", "1"]
        process = subprocess.Popen(command, cwd=ROOT, env=clean, stdout=subprocess.DEVNULL, start_new_session=True)
        try:
            while not http_ok(f"http://127.0.0.1:{port}/readyz"):
                if process.poll() is not None:
                    raise click.ClickException("digitq up does not start")
                time.sleep(0.2)
            with Queue(settings=Settings(redis_url=f"unix://{folder}/redis/redis.sock")) as queue:
                yield f"http://127.0.0.1:{port}", process.pid, queue
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def large() -> bytes:
    """Return a picture of the size of a scan."""
    out = BytesIO()
    Image.open(BytesIO(picture()[0])).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(out, "PNG")
    return out.getvalue()


def capacity(body: bytes) -> float:
    """Return the pictures/s of one worker without other load."""
    with stack() as (_, _, queue):
        last = [queue.submit(body) for _ in range(PROBE)][-1]
        began, waiting = time.monotonic(), (queue.get(last.id).queue_position or 0) + 1
        queue.get(last.id, wait=60)
        return waiting / (time.monotonic() - began)


async def watched(crowd: Crowd, rate: float, seconds: float, root: int) -> dict[str, list[float]]:
    """Run the load, and sample the memory (MB) of each process once a second."""
    memory: defaultdict[str, list[float]] = defaultdict(list)

    async def look() -> None:
        while True:
            for group, pids in processes.groups(root).items():
                for pid in pids:
                    memory[f"{group} {pid}"].append(processes.rss_mb(pid))
            await asyncio.sleep(1)

    looking = asyncio.create_task(look())
    await crowd.come(rate, seconds)
    looking.cancel()
    # Only processes that ran all the time; shells and helpers of a few MB are left out.
    return {name: sizes for name, sizes in memory.items() if len(sizes) > seconds * 0.8 and max(sizes) > 5}


def overloaded(body: bytes, rate: float, seconds: float, room: int) -> tuple[Books, dict[str, list[float]]]:
    """Measure `rate` pictures a second with a queue of `room`, and `watched`'s memory."""
    with stack(DIGITQ_QUEUE_MAX_LENGTH=str(room), DIGITQ_RESULT_TTL_SECONDS=str(TTL_SECONDS)) as (url, root, _):
        crowd = Crowd(url, body)
        return crowd.books, asyncio.run(watched(crowd, rate, seconds, root))


def grown(sizes: list[float], seconds: float) -> tuple[float, float]:
    """Return the mean of a window after the warm-up, and of one before the end."""
    first = int(min(WARM_SECONDS, seconds / 3))
    length = int(min(WINDOW_SECONDS, seconds / 3))
    early, late = sizes[first : first + length], sizes[int(seconds) - length : int(seconds)]
    return sum(early) / len(early), sum(late) / len(late)


def broken(result: dict[str, Any], goal_ms: float) -> list[str]:
    """Return the broken guarantees."""
    p99, more = result["end_ms"]["p99"], {n: late - early for n, (early, late) in result["memory_mb"].items()}
    return [
        *([f"p99 of the accepted ones is {p99} ms"] if p99 is None or p99 > goal_ms else []),
        *([f"{result['lost']} are lost"] if result["lost"] else []),
        *(["some have failed"] if set(result["states"]) - {"succeeded"} else []),
        *(["nobody was refused: it was no overload"] if not result["answers"].get("503") else []),
        *(["some got neither 202 nor 503"] if set(result["answers"]) - {"202", "503"} else []),
        *(["some were refused without being told for how long"] if "0" in map(str, result["told_s"]) else []),
        *(f"{name} has grown by {mb:.1f} MB" for name, mb in more.items() if mb > GROWN_MB),
    ]


@click.command()
@click.option("--seconds", default=60.0, show_default=True)
@click.option("--times", default=3.0, show_default=True, help="The capacity")
@click.option("--goal-ms", default=1000.0, show_default=True, help="Latency goal of accepted pictures, p99")
def main(seconds: float, times: float, goal_ms: float) -> None:
    body = large()
    speed = capacity(body)
    tried, _ = overloaded(body, times * speed, TRIAL_SECONDS, int(speed * goal_ms / 2000))
    busy = tried.states["succeeded"] / TRIAL_SECONDS
    room = max(1, int(busy * goal_ms / 2000))
    books, memory = overloaded(body, times * speed, seconds, room)
    result = {"capacity": speed, "capacity_meanwhile": busy, "queue_max_length": room, **books.result()}
    result["memory_mb"] = {name: grown(sizes, seconds) for name, sizes in memory.items()}
    result["broken"] = broken(result, goal_ms)
    click.echo(json.dumps(result, indent=2))
    sys.exit(bool(result["broken"]))


if __name__ == "__main__":
    main()
