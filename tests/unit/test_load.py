"""The load and the number of workers needed: read in one step, computed in one place."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from shared import keys
from shared.batches import Batches
from shared.chunks import Chunk
from shared.load import Load, Worker
from shared.store import Store
from tests.api import answer_all
from tests.pictures import seven
from worker.telemetry.speed import Speed


def load(waiting: int = 0, low: int = 0, workers: int = 2, speed: float | None = 100, **changes: Any) -> Load:
    queues = dict(zip(keys.QUEUES, (0, waiting, low), strict=True))
    base: dict[str, Any] = {"running": 0, "bulk": 0, "oldest": 0.0, "arrivals": 0.0, "completions": 0.0} | changes
    return Load(queues, workers=(Worker("busy", "cpu", speed),) * workers, **base)


@pytest.mark.parametrize(
    ("reading", "needed"),
    [
        (load(), 1),  # nothing to do: one is kept
        (load(arrivals=70), 1),  # 70 of 100 per second: busy for 70 % of the time
        (load(arrivals=71), 2),
        (load(arrivals=700), 10),
        (load(waiting=300), 3),  # 300 pictures within a second
        (load(waiting=300, running=1), 4),
        (load(low=100_000, bulk=9_000, arrivals=1), 1),  # batches wait behind single pictures
        (load(arrivals=10, speed=None), None),  # no worker has said yet what it can do
        (load(arrivals=10, workers=0), None),
    ],
)
def test_workers_are_needed_for_arrivals_and_for_the_backlog(reading: Load, needed: int | None) -> None:
    assert reading.needed(goal=1.0) == needed


def test_the_time_for_the_backlog_follows_from_the_speed_of_live_workers() -> None:
    assert load(waiting=500, running=100, workers=3).eta == 2.0
    assert load(waiting=500, workers=2, speed=None).eta is None
    assert load(waiting=500, speed=None, completions=250.0).eta == 2.0
    assert load().eta == 0.0


def test_a_fleet_of_unlike_workers_is_the_sum_of_them() -> None:
    workers = (Worker("busy", "gpu", 900.0), Worker("idle", "cpu", 100.0), Worker("idle", "cpu", None))
    mixed = Load({}, 0, 0, 0.0, 0.0, 0.0, workers)
    assert mixed.capacity == 1500.0  # of whom nothing is known yet counts as the mean


def test_a_worker_learns_from_small_batches_what_it_can_do_in_full_ones() -> None:
    speed = Speed()
    assert speed.at(64) is None
    for pictures in (1, 2, 8, 3, 5, 1):
        speed.add(pictures, 0.004 + 0.0005 * pictures)
    assert speed.at(64) == pytest.approx(64 / (0.004 + 0.0005 * 64))
    alike = Speed()
    alike.add(4, 0.008)
    assert alike.at(64) == pytest.approx(500)  # of one size alone nothing is concluded


def test_arrivals_and_ends_are_counted_for_every_client(store: Store, client: redis.Redis) -> None:
    for _ in range(3):
        store.submit(seven())
    client.set(keys.image("plain"), seven())
    Batches(store).submit([Chunk(200, b"x"), Chunk(50, b"y")])
    reading = store.load()
    assert reading.backlog == 253 and reading.queues == {"digitq-high": 0, "digitq": 3, "digitq-low": 2}
    assert reading.oldest > 0
    assert 253 / 15 <= reading.arrivals <= 253 / 10 + 0.1 and reading.completions == 0
    answer_all(store)
    assert 3 / 15 <= store.load().completions <= 3 / 10 + 0.1
    client.delete(*client.keys("digitq:flow:*"))
    assert store.load().arrivals == 0
