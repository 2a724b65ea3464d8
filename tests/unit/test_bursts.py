"""The simulation of bursts, `benchmarks/bursts.py`: what must come out of it whatever the numbers."""

from __future__ import annotations

import pytest

from benchmarks.bursts import Keda, Outcome, Traffic, simulate

TRAFFIC = Traffic(rate=100, burst=3000, every=300, lasts=20)


def fixed(workers: int, traffic: Traffic = TRAFFIC) -> Outcome:
    return simulate(traffic, lambda *_: workers, per_worker=1000, seconds=900)


def test_a_fleet_for_the_peak_never_queues_and_one_for_the_mean_waits_as_long_as_arithmetic_says() -> None:
    assert fixed(4).p99 < 0.2
    # 20 s at 3,000 a second, 1,000 of them read: 40,000 are left over, which the last of them waits for.
    assert fixed(1).longest == pytest.approx(40_000, rel=0.03)
    assert fixed(1).p99 == pytest.approx(40, rel=0.05)


def test_a_fleet_that_grows_with_the_backlog_waits_less_than_the_mean_and_costs_less_than_the_peak() -> None:
    scaled = simulate(TRAFFIC, Keda(), per_worker=1000, seconds=900)
    assert scaled.p99 < fixed(1).p99 / 2
    assert 1 < scaled.mean < 4


def test_a_fleet_that_is_idle_goes_back_to_one() -> None:
    fleet = Keda()
    seen = [fleet(second, 4000 if second < 30 else 0) for second in range(600)]
    assert max(seen) == 4 and seen[-1] == 1 and seen[140] == 4
