"""Reports the load of queue and workers, and how many workers are needed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from shared import keys

#: Largest share of its time that a worker should be busy. With Poisson arrivals the mean wait for one server of
#: constant speed is u / (2 (1 - u)) service times (Pollaczek-Khinchine, M/D/1): 1.2 at 0.7, 4.5 at 0.9; with several
#: servers it is less, and a batch serves up to 64 waiting pictures at once.
UTILISATION = 0.7


@dataclass(frozen=True, slots=True)
class Worker:
    """A live worker. `speed` is its measured pictures per second in full batches; None before the first."""

    state: str
    device: str
    speed: float | None
    #: The version of the model that it serves; empty if it has not said so.
    model: str = ""
    #: Why it refuses a newer model; empty if there is none.
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Load:
    """The load at one moment. A job is one picture, or a chunk of up to 256 pictures of a batch."""

    #: Waiting jobs by queue.
    queues: dict[str, int]
    #: Claimed jobs.
    running: int
    #: Pictures of waiting and claimed chunks beyond one for each job.
    bulk: int
    #: Seconds that the oldest queued job has waited; 0 if the queues are empty.
    oldest: float
    #: Pictures per second submitted and finished, over the last 10 to 15 seconds.
    arrivals: float
    completions: float
    workers: tuple[Worker, ...]

    @classmethod
    def from_reply(cls, reply: Sequence[Any]) -> Load:
        """Parse the reply of load.lua."""
        now, bulk, since, seconds, arrived, ended, waiting, running, flat = reply
        oldest = float(now) - datetime.fromisoformat(since.decode()).timestamp() if since else 0.0
        rows = zip(*([text.decode("utf-8", "replace") for text in flat[at::6]] for at in range(1, 6)), strict=True)
        workers = (Worker(s or "idle", d or "cpu", float(v or 0) or None, *model) for s, d, v, *model in rows)
        return cls(dict(zip(keys.QUEUES, waiting, strict=True)), sum(running), int(bulk), max(0.0, oldest),
                   arrived / float(seconds), ended / float(seconds), tuple(workers))  # fmt: skip

    @property
    def queued(self) -> int:
        """Pictures in the queues, and those of claimed chunks beyond one for each."""
        return sum(self.queues.values()) + self.bulk

    @property
    def backlog(self) -> int:
        """Pictures that have not ended, queued or claimed."""
        return self.queued + self.running

    @property
    def capacity(self) -> float | None:
        """Pictures per second of all live workers with full batches; None before any was measured."""
        known = [worker.speed for worker in self.workers if worker.speed]
        return sum(known) / len(known) * len(self.workers) if known else None

    @property
    def eta(self) -> float | None:
        """Seconds until the backlog is done; None if unknown."""
        if not self.backlog:
            return 0.0
        speed = self.capacity or self.completions
        return self.backlog / speed if speed else None

    @property
    def models(self) -> dict[str, int]:
        """The models in service by version, each with the number of workers that serve it, most first."""
        return dict(Counter(worker.model for worker in self.workers if worker.model).most_common())

    @property
    def refusals(self) -> list[str]:
        """Why workers refuse a newer model, each reason once."""
        return sorted({worker.refused for worker in self.workers if worker.refused})

    def needed(self, goal: float) -> int | None:
        """Return how many workers like the present ones classify a new picture within `goal` seconds; None if unknown.

        Arrivals keep them busy for at most UTILISATION of their time, and they finish the jobs ahead of a new picture
        within `goal`. Batches are in the low queue, which is served last and does not count.
        """
        ahead = self.running + sum(self.queues.values()) - self.queues[keys.Priority.LOW.queue]
        if not ahead and not self.arrivals:
            return 1
        if not self.capacity:
            return None
        each = self.capacity / len(self.workers)
        return max(1, math.ceil(self.arrivals / (UTILISATION * each)), math.ceil(ahead / (goal * each)))

    def to_json(self, goal: float) -> dict[str, Any]:
        """Return the body of `/v1/status`; `goal` in seconds."""
        eta, capacity = self.eta, self.capacity
        states = Counter(worker.state for worker in self.workers)
        return {
            "redis": True,
            "queued": self.queued,
            "running": self.running,
            "oldest_ms": round(self.oldest * 1000),
            "workers": {
                "alive": len(self.workers),
                "busy": states["busy"],
                "needed": self.needed(goal),
                "models": self.models,
                "refusing": sum(bool(worker.refused) for worker in self.workers),
            },
            "latency_goal_ms": round(goal * 1000),
            "arrivals_per_second": round(self.arrivals, 1),
            "per_second": round(self.completions, 1),
            "capacity_per_second": None if capacity is None else round(capacity, 1),
            "eta_ms": None if eta is None else round(eta * 1000),
        }
