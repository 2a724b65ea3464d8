"""Measures how throughput grows with workers, each a container with a fixed share of a core instead of a machine; and
the cost of a picture in each part, from which `deploy/README.md` derives how many of each are needed.

    python -m benchmarks.scaling > scaling.json       needs Docker and both images (docker compose build); three minutes

Workers are started and pictures queued while the queue is suspended, so that a window contains only N workers and
Redis. Then two no-op workers measure the limit of one Redis, a batch measures the savings of chunks, and a web process
adds the cost from end to end.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from base64 import b64encode
from contextlib import ExitStack
from typing import Any

import click
from rq.suspension import suspend

from benchmarks.fleet import WARM_SECONDS, Fleet
from benchmarks.picture import idx, picture
from shared.settings import child_environment

#: Pictures in the batch, and clients of the web process.
BULK, CLIENTS = 20_000, 32
#: CPU limit of the web process whose rate is predicted.
SLICE = 0.5


def rows(fleet: Fleet, cores: float, seconds: float, most: int) -> list[dict[str, float]]:
    """Measures 1, 2, 4, … workers and back again against drift; keeps the better of each two."""
    counts = [2**power for power in range(most.bit_length())]
    found: list[dict[str, float]] = []
    guess = 15_000 * cores
    for workers in counts + counts[::-1]:
        suspend(fleet.redis)
        fleet.grow(workers, cores)
        fleet.fill(int(1.7 * guess * workers * (seconds + WARM_SECONDS)))
        found.append(fleet.window(seconds))
        guess = found[-1]["rate"] / workers
        click.echo(found[-1], err=True)
    best = [max(pair, key=lambda row: row["rate"]) for pair in zip(found, found[::-1], strict=True)]
    return [{**row, "of_linear": row["rate"] / row["workers"] / best[0]["rate"]} for row in best[: len(counts)]]


def submitted(fleet: Fleet, count: int) -> dict[str, float]:
    """Measure the cost of submitting pictures in Redis, and their memory until they end."""
    fleet.redis.flushall()
    suspend(fleet.redis)
    cpu, used, began = fleet.cpu()[0], fleet.redis.info("memory")["used_memory"], time.perf_counter()
    fleet.fill(count)
    took, grown = time.perf_counter() - began, fleet.redis.info("memory")["used_memory"] - used
    return {"rate": count / took, "redis_us": 1e6 * (fleet.cpu()[0] - cpu) / count, "bytes": grown / count}


def most_of_redis(fleet: Fleet, seconds: float) -> dict[str, float]:
    """Measures the maximum rate of one Redis, with two no-op workers."""
    fleet.grow(0, 1)
    command = [sys.executable, "-m", "benchmarks.noop"]
    idle = [subprocess.Popen(command, env=child_environment(REDIS_URL=fleet.url)) for _ in range(2)]
    try:
        time.sleep(3)
        return fleet.window(seconds)
    finally:
        for process in idle:
            process.terminate()
            process.wait()


def in_a_batch(fleet: Fleet) -> dict[str, float]:
    """Measures the same pictures as a batch, with one unlimited worker."""
    fleet.redis.flushall()
    fleet.grow(1, 1)
    cpu, began = fleet.cpu(), time.perf_counter()
    ended = fleet.queue.submit_batch(idx(BULK)).wait(60)
    took, after = time.perf_counter() - began, fleet.cpu()
    assert ended.succeeded == BULK
    redis, worker = (1e6 * (b - a) / BULK for a, b in zip(cpu, after, strict=True))
    memory = fleet.redis.info("memory")["used_memory"] / BULK
    return {"rate": BULK / took, "redis_us": redis, "worker_us": worker, "bytes": memory}


def through_the_web(fleet: Fleet, seconds: float) -> dict[str, Any]:
    """Run a closed loop of clients against a web process and a worker: CPU µs a picture in each part, without limits.

    Then predict and measure the rate of a web process with a share of a core."""
    fleet.redis.flushall()
    web = fleet.beside("digitq-web")
    time.sleep(3)
    empty = fleet.redis.info("memory")["used_memory"]
    before = (web.cpu_s(), *fleet.cpu())
    done = _load(fleet, seconds)
    spent = [1e6 * (b - a) / done["answered"] for a, b in zip(before, (web.cpu_s(), *fleet.cpu()), strict=True)]
    kept = (fleet.redis.info("memory")["used_memory"] - empty) / fleet.done()
    web.limit(SLICE)
    check = {"web_cores": SLICE, "predicted": 1e6 * SLICE / spent[0], "rate": _load(fleet, seconds)["rate"]}
    return {"rate": done["rate"], **dict(zip(("web_us", "redis_us", "worker_us"), spent, strict=True)),
            "bytes": kept, "check": check}  # fmt: skip


def _load(fleet: Fleet, seconds: float) -> dict[str, Any]:
    body, digit = picture()
    load = {"url": f"http://127.0.0.1:{fleet.server.port(8000)}", "body": b64encode(body).decode(), "digit": digit,
            "clients": CLIENTS, "seconds": seconds, "warm": 0.0}  # fmt: skip
    answer = subprocess.run([sys.executable, "-m", "benchmarks.client"], input=json.dumps(load), check=True,
                            stdout=subprocess.PIPE, text=True)  # fmt: skip
    done: dict[str, Any] = json.loads(answer.stdout)
    assert not done["errors"], done["errors"]
    return done


@click.command()
@click.option("--cores", default=0.1, show_default=True, help="Slice of a core for each worker")
@click.option("--seconds", default=4.0, show_default=True, help="Length of a window")
@click.option("--most", default=8, show_default=True, help="Workers in the last window; 1, 2, 4, … before it")
def main(cores: float, seconds: float, most: int) -> None:
    """Print the scaling table as JSON; progress on stderr."""
    with ExitStack() as stack:
        fleet = Fleet(stack)
        found: dict[str, Any] = {"cores": cores, "rows": rows(fleet, cores, seconds, most)}
        found["submit"] = submitted(fleet, 80_000)
        found["most_of_redis"] = most_of_redis(fleet, 3)
        found["batch"] = in_a_batch(fleet)
        found["web"] = through_the_web(fleet, seconds)
    click.echo(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
