"""How busy the queue and the workers are, and what follows from it: one reading, whoever asks."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from shared import keys

#: A worker that is busy for a larger share of its time lets pictures wait. With Poisson arrivals the mean wait in front
#: of one server of constant speed is u / (2 (1 - u)) services (Pollaczek-Khinchine, M/D/1): 1.2 at 0.7, 4.5 at 0.9;
#: with c servers it is less, and a batch serves up to 64 waiting pictures at once.
UTILISATION = 0.7


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker that is alive. `speed`: pictures per second in full batches, as it has measured itself; None so far."""

    state: str
    device: str
    speed: float | None


@dataclass(frozen=True, slots=True)
class Load:
    """One reading. Jobs and pictures differ by batches, of which a job is a chunk of up to 256 pictures."""

    #: Waiting jobs by queue.
    queues: dict[str, int]
    #: Jobs in the workers' hands.
    running: int
    #: Pictures of chunks, waiting or in hand, beyond one for each job.
    bulk: int
    #: Seconds for which the first in the queues has waited; 0 where nothing waits.
    oldest: float
    #: Pictures per second that arrived and that ended, over the last 10 to 15 seconds.
    arrivals: float
    completions: float
    workers: tuple[Worker, ...]

    @classmethod
    def from_reply(cls, reply: Sequence[Any]) -> Load:
        """Reads load.lua's answer."""
        now, bulk, since, seconds, arrived, ended, waiting, running, flat = reply
        oldest = float(now) - datetime.fromisoformat(since.decode()).timestamp() if since else 0.0
        rows = zip(flat[1::4], flat[2::4], flat[3::4], strict=True)
        workers = (Worker(s.decode() or "idle", d.decode() or "cpu", float(v or 0) or None) for s, d, v in rows)
        return cls(dict(zip(keys.QUEUES, waiting, strict=True)), sum(running), int(bulk), max(0.0, oldest),
                   arrived / float(seconds), ended / float(seconds), tuple(workers))  # fmt: skip

    @property
    def queued(self) -> int:
        """Pictures that wait, those of a chunk in hand included."""
        return sum(self.queues.values()) + self.bulk

    @property
    def backlog(self) -> int:
        """Pictures that have not ended: waiting or in hand."""
        return self.queued + self.running

    @property
    def capacity(self) -> float | None:
        """Pictures per second of which the live workers are able, full batches given; None where none has been seen."""
        known = [worker.speed for worker in self.workers if worker.speed]
        return sum(known) / len(known) * len(self.workers) if known else None

    @property
    def eta(self) -> float | None:
        """Seconds until what waits now is done; None where nobody can say."""
        if not self.backlog:
            return 0.0
        speed = self.capacity or self.completions
        return self.backlog / speed if speed else None

    def needed(self, goal: float) -> int | None:
        """Workers like the present ones for which a new picture is answered within `goal` seconds; None if unknown.

        Enough that arrivals keep them busy for UTILISATION of their time, and that what would be served before it is
        done in `goal`: of the queues, those before the low one, where batches wait.
        """
        ahead = self.running + sum(self.queues.values()) - self.queues[keys.Priority.LOW.queue]
        if not ahead and not self.arrivals:
            return 1
        if not self.capacity:
            return None
        each = self.capacity / len(self.workers)
        return max(1, math.ceil(self.arrivals / (UTILISATION * each)), math.ceil(ahead / (goal * each)))

    def to_json(self, goal: float) -> dict[str, Any]:
        """The status as the outside reads it; `goal` in seconds."""
        eta, capacity = self.eta, self.capacity
        states = Counter(worker.state for worker in self.workers)
        return {
            "redis": True,
            "queued": self.queued,
            "running": self.running,
            "oldest_ms": round(self.oldest * 1000),
            "workers": {"alive": len(self.workers), "busy": states["busy"], "needed": self.needed(goal)},
            "latency_goal_ms": round(goal * 1000),
            "arrivals_per_second": round(self.arrivals, 1),
            "per_second": round(self.completions, 1),
            "capacity_per_second": None if capacity is None else round(capacity, 1),
            "eta_ms": None if eta is None else round(eta * 1000),
        }
