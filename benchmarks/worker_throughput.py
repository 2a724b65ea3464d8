"""Compares jobs per second of a no-op classification: BatchWorker and RQ's SimpleWorker, side by side.

    python -m benchmarks.worker_throughput [JOBS [ROUNDS]]        prints JSON; `digitq bench` runs it

The same jobs in the same embedded server, both sides in turn. Compare their ratio.
"""

from __future__ import annotations

import json
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from rq import SimpleWorker

import digitq.tasks
from benchmarks import noop
from shared import keys
from shared.settings import Settings
from shared.standalone.embedded_server import embedded
from shared.store import Store, connect
from worker.queue.batch_worker import BatchWorker

#: The stock worker gets one job for this many of ours, so that both take a similar time.
FEWER = 20


def fill(store: Store, jobs: int) -> None:
    store.client.flushall()
    for _ in range(jobs):
        store.submit(bytes(250))


def ours(store: Store) -> None:
    one = BatchWorker(store, noop.batch)
    one.work(burst=True)
    one.wakeup.close()


def stock(store: Store) -> None:
    with mock.patch.object(digitq.tasks, "classify", noop.classify):
        SimpleWorker(list(keys.QUEUES), connection=store.client, serializer="json").work(
            burst=True, logging_level="CRITICAL"
        )


def rate(store: Store, side: Callable[[Store], None], jobs: int) -> tuple[float, float]:
    """Return jobs per second, and CPU microseconds of this process per job."""
    fill(store, jobs)
    wall, cpu = time.perf_counter(), time.process_time()
    side(store)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    done = store.client.zcard(keys.finished("digitq"))
    assert done == jobs, f"{done} of {jobs} finished"
    return jobs / wall, cpu / jobs * 1e6


def compare(jobs: int, rounds: int) -> dict[str, Any]:
    """Return the median jobs/s and worker CPU µs a job of both, and the ratio of each round."""
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="digitq-") as folder, embedded(Path(folder)) as url:
        store = Store(connect(url, timeout=60), Settings(redis_url=url))
        pairs = [(rate(store, stock, max(5, jobs // FEWER)), rate(store, ours, jobs)) for _ in range(rounds)]
    medians = {
        name: {unit: statistics.median(pair[side][at] for pair in pairs) for at, unit in enumerate(("rate", "cpu_us"))}
        for side, name in enumerate(("SimpleWorker", "BatchWorker"))
    }
    return {**medians, "ratios": [pair[1][0] / pair[0][0] for pair in pairs]}


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:]]
    print(json.dumps(compare(*(given + [20_000, 3][len(given) :])), indent=2))
