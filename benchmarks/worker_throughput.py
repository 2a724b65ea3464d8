"""Jobs per second of one worker with a no-op classification: ours against RQ's SimpleWorker, side by side.

    python -m benchmarks.worker_throughput [JOBS]

The same jobs in the same embedded server, the two sides in turn three times; the ratio is the figure to hold on to.
"""

from __future__ import annotations

import logging
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

from rq import SimpleWorker

import worker.tasks
from benchmarks import noop
from shared import keys
from shared.home import embedded
from shared.settings import Settings
from shared.store import Store, connect
from worker.batch_worker import BatchWorker

ROUNDS = 3


def fill(store: Store, jobs: int) -> None:
    store.client.flushall()
    for _ in range(jobs):
        store.submit(bytes(250))


def ours(store: Store) -> None:
    one = BatchWorker(store, noop.batch)
    one.work(burst=True)
    one.bell.close()


def stock(store: Store) -> None:
    with mock.patch.object(worker.tasks, "classify", noop.classify):
        SimpleWorker(list(keys.QUEUES), connection=store.client, serializer="json").work(
            burst=True, logging_level="CRITICAL"
        )


def rate(store: Store, side: object, jobs: int) -> tuple[float, float]:
    """Jobs per second, and CPU microseconds of this process per job."""
    fill(store, jobs)
    wall, cpu = time.perf_counter(), time.process_time()
    side(store)  # type: ignore[operator]
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    done = store.client.zcard("rq:finished:digitq")
    assert done == jobs, f"{done} of {jobs} finished"
    return jobs / wall, cpu / jobs * 1e6


def main(jobs: int) -> None:
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="digitq-") as folder, embedded(Path(folder)) as url:
        store = Store(connect(url, timeout=60), Settings(redis_url=url))
        rounds = [(rate(store, stock, jobs // 20), rate(store, ours, jobs)) for _ in range(ROUNDS)]
    print(
        f"{platform.machine()}, Python {platform.python_version()}, AOF everysec, {jobs} jobs, {ROUNDS} rounds in turn"
    )
    for name, side in (("stock SimpleWorker", 0), ("BatchWorker", 1)):
        rates = [one[side][0] for one in rounds]
        cpu = statistics.median(one[side][1] for one in rounds)
        print(f"{name:20} {statistics.median(rates):8.0f} jobs/s  {cpu:7.0f} us worker CPU a job")
    ratios = sorted(b[0] / a[0] for a, b in rounds)
    print(f"ratio                {statistics.median(ratios):8.1f} x  ({ratios[0]:.1f} to {ratios[-1]:.1f})")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000)
