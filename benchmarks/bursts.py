"""Simulates bursts of arrivals, to size a fleet of workers in advance.

    python -m benchmarks.bursts --rate 200 --burst 3000 --every 600 --lasts 30 --per-worker 2000

Pictures arrive at random at `rate` a second, and at `burst` a second for `lasts` of every `every` seconds. Each worker
reads `per-worker` a second, first come, first served. Fixed fleets are compared with one that is scaled as
`deploy/kubernetes/keda` does it: looked at every 5 s, a worker for each 1,000 of the backlog, at most doubled every
15 s, halved at most every 30 s and only to the highest that the last 120 s asked for; a new worker needs 10 s to load.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import click

STEP = 0.1


@dataclass(frozen=True)
class Traffic:
    """Arrivals: usual rate and rate in a burst (pictures/s), period and duration of bursts (s)."""

    rate: float
    burst: float
    every: float
    lasts: float

    def at(self, second: float) -> float:
        return self.burst if second % self.every >= self.every - self.lasts else self.rate


@dataclass
class Keda:
    """The scaling of the ScaledObject: returns the number of ready workers for a time and a backlog."""

    least: int = 1
    most: int = 20
    target: float = 1000
    load_seconds: float = 10
    ready: int = 1
    #: When a requested worker is ready.
    coming: list[float] = field(default_factory=list)
    wanted: deque[tuple[float, int]] = field(default_factory=deque)
    up: float = -math.inf
    down: float = -math.inf

    def __call__(self, second: float, backlog: float) -> int:
        self.ready += sum(at <= second for at in self.coming)
        self.coming = [at for at in self.coming if at > second]
        if second % 5 < STEP:
            self._look(second, min(self.most, max(self.least, math.ceil(backlog / self.target))))
        return self.ready

    def _look(self, second: float, wanted: int) -> None:
        self.wanted.append((second, wanted))
        while self.wanted[0][0] < second - 120:
            self.wanted.popleft()
        have = self.ready + len(self.coming)
        if wanted > have and second - self.up >= 15:
            self.up = second
            self.coming += [second + self.load_seconds] * (min(wanted, 2 * have) - have)
        highest = max(one for _, one in self.wanted)
        if highest < have and second - self.down >= 30:
            self.down = second
            fewer = max(highest, have - have // 2)
            del self.coming[: have - fewer]
            self.ready = fewer - len(self.coming)


@dataclass(frozen=True)
class Outcome:
    """Waiting times in seconds by share of the pictures, the longest queue, and workers: most and on average."""

    p50: float
    p99: float
    longest: float
    most: int
    mean: float


def simulate(
    traffic: Traffic, fleet: Callable[[float, float], int], per_worker: float, seconds: float, seed: int = 0
) -> Outcome:
    waits: list[tuple[float, int]] = []
    workers: list[int] = []
    longest = 0
    for waited, backlog, ready in _steps(traffic, fleet, per_worker, seconds, random.Random(seed)):
        waits += waited
        longest = max(longest, backlog)
        workers.append(ready)
    waits.sort()
    total = sum(count for _, count in waits)
    return Outcome(
        _share(waits, 0.5 * total), _share(waits, 0.99 * total), longest, max(workers), sum(workers) / len(workers)
    )


def _steps(
    traffic: Traffic, fleet: Callable[[float, float], int], per_worker: float, seconds: float, dice: random.Random
) -> Iterator[tuple[list[tuple[float, int]], int, int]]:
    """Yield for each step: waiting times of finished pictures, queue length, workers."""
    queue: deque[list[float]] = deque()  # time of arrival, number left
    backlog, spare = 0, 0.0
    for step in range(int(seconds / STEP)):
        second = step * STEP
        mean = traffic.at(second) * STEP
        came = max(0, round(dice.gauss(mean, math.sqrt(mean))))
        queue.append([second, came])
        backlog += came
        ready = fleet(second, backlog)
        spare = min(spare, 1) + ready * per_worker * STEP
        left: list[tuple[float, int]] = []
        while queue and spare >= 1:
            took = min(int(spare), int(queue[0][1]))
            left.append((second - queue[0][0] + STEP / 2, took))
            spare, queue[0][1], backlog = spare - took, queue[0][1] - took, backlog - took
            if not queue[0][1]:
                queue.popleft()
        yield left, backlog, ready


def _share(waits: list[tuple[float, int]], wanted: float) -> float:
    for wait, count in waits:
        wanted -= count
        if wanted <= 0:
            return wait
    return math.nan


@click.command()
@click.option("--rate", default=200.0, show_default=True)
@click.option("--burst", default=3000.0, show_default=True)
@click.option("--every", default=600.0, show_default=True)
@click.option("--lasts", default=30.0, show_default=True)
@click.option("--per-worker", default=2000.0, show_default=True, help="Pictures a second that one worker reads")
def main(rate: float, burst: float, every: float, lasts: float, per_worker: float) -> None:
    """Print waiting times and worker hours of several fleets."""
    traffic, seconds = Traffic(rate, burst, every, lasts), 6 * every
    peak = math.ceil(burst / per_worker)
    fixed = {f"{n} fixed": (lambda *_, n=n: n) for n in range(1, peak + 2)}
    click.echo("| fleet | p50 s | p99 s | longest queue | most workers | on average |\n|---|---|---|---|---|---|")
    for name, fleet in {**fixed, "KEDA": Keda()}.items():
        one = simulate(traffic, fleet, per_worker, seconds)
        click.echo(f"| {name} | {one.p50:.1f} | {one.p99:.1f} | {one.longest:,} | {one.most} | {one.mean:.1f} |")


if __name__ == "__main__":
    main()
