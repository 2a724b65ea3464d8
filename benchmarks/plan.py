"""The extent of a measurement. FULL takes about eleven minutes on two cores; QUICK only shows that everything runs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """Durations in seconds; `shares` are arrival rates relative to the closed loop's throughput."""

    repetitions: int = 3
    clients: tuple[int, ...] = (1, 64)
    seconds: float = 5.0
    warm: float = 0.5
    open_repetitions: int = 2
    open_seconds: float = 3.0
    shares: tuple[float, ...] = (0.3, 0.6, 0.9, 1.2)
    #: Clients of the crowds that digitq alone gets, against as many as wait in the closed loop.
    crowds: tuple[int, ...] = (256, 1024)
    #: Backlogs that one worker drains: the small one before and after each large one.
    backlogs: tuple[int, int] = (1_000, 100_000)
    #: Jobs of the no-op comparison, and its rounds.
    noop_jobs: int = 10_000
    noop_rounds: int = 3
    #: Digits of the bulk upload, and of the one that runs beside single uploads.
    bulk: tuple[int, int] = (10_000, 100_000)


FULL = Plan()
QUICK = Plan(
    repetitions=1, clients=(1, 4), seconds=0.6, warm=0.1, open_repetitions=1, open_seconds=0.5, shares=(0.3, 0.6),
    crowds=(8,), backlogs=(20, 60), noop_jobs=200, noop_rounds=1, bulk=(50, 200),
)  # fmt: skip
