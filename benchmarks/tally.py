"""Counts the results of a load: answers, errors, and exact percentiles of the latencies."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}


@dataclass
class Tally:
    """The results of a load; times are of the loop's clock, in seconds."""

    begin: float
    end: float
    latencies: list[float] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    answered: int = 0
    in_window: int = 0

    def right(self, intended: float, now: float, size: int) -> None:
        """Record a correct response at `now` to a picture scheduled for `intended`."""
        self.answered += 1
        self.in_window += self.begin <= now < self.end
        if intended >= self.begin:
            self.latencies.append(now - intended)
            self.sizes.append(size)

    def unanswered(self, age: float) -> None:
        """Record a timeout after `age` seconds: an error with at least that latency."""
        self.latencies.append(age)
        self.errors["unanswered"] += 1

    def result(self) -> dict[str, Any]:
        """Return pictures/s and latencies (ms) of the window, errors and responses of the whole run."""
        return {
            "rate": self.in_window / (self.end - self.begin),
            "answered": self.answered,
            "ms": percentiles([1000 * one for one in self.latencies]),
            "batch_size": sum(self.sizes) / len(self.sizes) if self.sizes else None,
            "errors": dict(self.errors),
        }


def percentiles(values: list[float]) -> dict[str, float | None]:
    """Return exact quantiles by nearest rank, and the maximum; None without values."""
    ordered, n = sorted(values), len(values)
    found = {name: ordered[math.ceil(q * n) - 1] if n else None for name, q in QUANTILES.items()}
    return {**found, "max": ordered[-1] if n else None}
