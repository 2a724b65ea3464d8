"""Measures what a batch costs a worker's CPU, side by side with another checkout.

    python -m benchmarks.worker_cost [--against FOLDER] [--rounds N] [--batches N]      prints JSON

Each checkout has an embedded Redis and a worker of its own; both are loaded in turn, so a drift of the machine affects
both. A batch is submitted by one call, and the next when the last has ended. The cost of a batch is fitted as fixed +
pictures * each, from the medians of the sizes.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import click
import numpy as np

from benchmarks.picture import pngs
from benchmarks.processes import cpu_seconds
from shared import keys
from shared.ids import new_id
from shared.settings import Settings, child_environment
from shared.standalone.embedded_server import embedded
from shared.store import Store, connect
from shared.submission import Submission

#: Pictures of a batch.
SIZES = (1, 16, 64)
HERE = Path(__file__).resolve().parent.parent

Figures = dict[str, float]


class Side:
    """The worker of one checkout, with a Redis of its own."""

    def __init__(self, checkout: Path, stack: ExitStack) -> None:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="digitq-")))
        url = stack.enter_context(embedded(folder))
        self.store = Store(connect(url, timeout=60), Settings(redis_url=url))
        env = child_environment(REDIS_URL=url, DIGITQ_STATE_DIR=str(folder), PYTHONPATH=str(checkout))
        self._worker = subprocess.Popen([sys.executable, "-m", "digitq", "worker"], cwd=checkout, env=env)
        stack.callback(self._worker.wait)
        stack.callback(self._worker.terminate)
        self._events = self.store.client.pubsub()
        self._events.subscribe(keys.EVENTS)
        self._images = pngs(max(SIZES))

    def run(self, size: int, batches: int) -> Figures:
        """Run batches one after the other; return CPU in us a batch of worker and Redis, and the median ms of one."""
        spent, worker, server = [], self._cpu(), self._redis_cpu()
        for _ in range(batches):
            start = time.perf_counter()
            self.store.submit_all([Submission(new_id(), image) for image in self._images[:size]])
            self._wait_for(size)
            spent.append(time.perf_counter() - start)
        worker, server = self._cpu() - worker, self._redis_cpu() - server
        return {
            "worker_us": 1e6 * worker / batches,
            "redis_us": 1e6 * server / batches,
            "ms": 1e3 * statistics.median(spent),
        }

    def memory_mb(self) -> Figures:
        """Return the memory of the worker in MB: resident, and its share of it (PSS)."""
        lines = Path(f"/proc/{self._worker.pid}/smaps_rollup").read_text().splitlines()[1:]
        kib = {line.split(":")[0]: int(line.split()[1]) for line in lines}
        return {name: round(kib[name] * 1024 / 1e6, 1) for name in ("Rss", "Pss", "Private_Dirty")}

    def _wait_for(self, pictures: int) -> None:
        while pictures > 0:
            message = self._events.get_message(timeout=60)
            if message is None:
                raise RuntimeError("the worker does not answer")
            if message["type"] == "message":
                pictures -= len(json.loads(message["data"])["ended"])

    def _cpu(self) -> float:
        """Return the CPU seconds of the worker so far: to the nanosecond, of the threads that live as long as it."""
        try:
            tasks = [*Path(f"/proc/{self._worker.pid}/task").glob("*/schedstat")]
            return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9
        except (OSError, IndexError):  # a kernel without these statistics
            return cpu_seconds([self._worker.pid])

    def _redis_cpu(self) -> float:
        used = self.store.client.info("cpu")
        return float(used["used_cpu_user"] + used["used_cpu_sys"])


def fitted(by_size: dict[int, float]) -> Figures:
    """Return `fixed` and `each` of the line through the costs by number of pictures."""
    each, fixed = np.polyfit(list(by_size), list(by_size.values()), 1, w=[1 / cost for cost in by_size.values()])
    return {"fixed": round(float(fixed), 1), "each": round(float(each), 1)}


@click.command()
@click.option("--against", type=click.Path(path_type=Path, exists=True), help="Another checkout to compare with")
@click.option("--rounds", default=5, show_default=True)
@click.option("--batches", default=100, show_default=True, help="Batches of each size in a round")
def main(against: Path | None, rounds: int, batches: int) -> None:
    """Print what batches of several sizes cost a worker, as JSON."""
    found: dict[str, dict[int, list[Figures]]] = {}
    with ExitStack() as stack:
        sides = {"here": Side(HERE, stack)} | ({"there": Side(against.resolve(), stack)} if against else {})
        for side in sides.values():
            side.run(max(SIZES), 20)  # the worker has started, and Redis knows the scripts
        for number in range(rounds):
            for size in SIZES:
                for name in list(sides)[:: 1 if number % 2 else -1]:
                    found.setdefault(name, {}).setdefault(size, []).append(sides[name].run(size, batches))
        memory = {name: side.memory_mb() for name, side in sides.items()}
    report = {}
    for name, by_size in found.items():
        medians = {
            size: {key: statistics.median(one[key] for one in many) for key in many[0]}
            for size, many in by_size.items()
        }
        fit = fitted({size: figures["worker_us"] for size, figures in medians.items()})
        rounded = {size: {key: round(one, 2) for key, one in figures.items()} for size, figures in medians.items()}
        report[name] = {"by_size": rounded, "worker_us": fit, "memory_mb": memory[name]}
    if against:
        pairs = {size: zip(found["here"][size], found["there"][size], strict=True) for size in SIZES}
        report["ratios"] = {
            size: {key: round(statistics.median(a[key] / b[key] for a, b in many), 3) for key in ("worker_us", "ms")}
            for size, many in ((size, list(pair)) for size, pair in pairs.items())
        }
    click.echo(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
