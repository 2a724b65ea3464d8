"""Measures a worker without a web process: throughput, memory of queued pictures in Redis, start-up time."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, cast

from benchmarks.picture import pngs
from benchmarks.plan import Plan
from producer import Queue
from shared import ROOT
from shared.settings import Settings, child_environment
from shared.standalone.embedded_server import embedded
from shared.store import connect


def alone(folder: Path, plan: Plan) -> dict[str, Any]:
    """Return all measurements of this module by name."""
    small, large = plan.backlogs
    with embedded(folder) as url:
        drains = [drain(url, count) for count in (small, large, small)]
    rates = [one["rate"] for one in drains]
    few = statistics.median(one["worker_cpu_s"] for one in drains[::2])
    return {
        "drains": drains,
        "rate_large_to_small": rates[1] / statistics.mean(rates[::2]),
        # The difference of a long and a short run cancels the start-up.
        "worker_cpu_us": 1e6 * (drains[1]["worker_cpu_s"] - few) / (large - small),
        "noop": noop(plan),
    }


def drain(url: str, count: int) -> dict[str, float]:
    """Queues `count` pictures with `Queue.submit_many` and runs one new worker until all are finished.

    The rate is from the first claim to the last result, by Redis's clock.
    """
    with connect(url, timeout=60) as redis:
        redis.flushall()
        queue, images = Queue(settings=Settings(redis_url=url)), pngs(count)
        queue.cancel(queue.submit(images[0]).id)  # load the scripts into Redis first
        empty, start = _info(redis, "used_memory"), time.perf_counter()
        predictions = queue.submit_many(images)
        submit, used = time.perf_counter() - start, _info(redis, "used_memory") - empty
        cpu = redis_cpu(redis)
        spawned, worker_cpu = _burst(url)
        first, last = queue.get(predictions[0].id), queue.get(predictions[-1].id)
        cpu = redis_cpu(redis) - cpu
        queue.close()
    assert first.started_at and last.finished_at, "a picture was left behind"
    return {
        "pictures": count,
        "rate": count / (last.finished_at - first.started_at),
        "submits_per_s": count / submit,
        "redis_bytes": (used - sum(map(len, images))) / count,
        "worker_cpu_s": worker_cpu,
        "redis_cpu_us": 1e6 * cpu / count,
        "first_claim_s": first.started_at - spawned,
    }


def _burst(url: str) -> tuple[float, float]:
    """Run one worker until the queues are empty. Returns when it started (Unix s), and its CPU seconds."""
    env = {key: value for key, value in child_environment(REDIS_URL=url).items() if not key.startswith("DIGITQ_")}
    env["DIGITQ_LOG_LEVEL"] = "WARNING"
    before, spawned = os.times(), time.time()
    subprocess.run([sys.executable, "-m", "digitq", "worker", "--burst"], cwd=ROOT, env=env, check=True)
    after = os.times()
    return spawned, after.children_user + after.children_system - before.children_user - before.children_system


def _info(redis: Any, field: str) -> float:
    return float(redis.info()[field])


def redis_cpu(redis: Any) -> float:
    """Return the CPU seconds of the server so far."""
    return _info(redis, "used_cpu_user") + _info(redis, "used_cpu_sys")


def noop(plan: Plan) -> dict[str, Any]:
    """Run `benchmarks.worker_throughput` in its own process, because it installs signal handlers."""
    words = [str(plan.noop_jobs), str(plan.noop_rounds)]
    command = [sys.executable, "-m", "benchmarks.worker_throughput", *words]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return cast("dict[str, Any]", json.loads(done.stdout))
