"""Reports a run with a full memory: figures, broken promises, and a plot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from benchmarks.panels import Panel, timeline
from benchmarks.pressure import Notes
from shared.redis_server.room import GROWTH_BYTES, URGENT_SECONDS

#: Seconds between two samples.
SAMPLE_SECONDS = 0.25
#: Guarantee: the longest run of 503s in seconds while results could be deleted.
GOAL_SECONDS = 2.0
#: Maximum share of the memory limit.
OVER = 1.02
#: Pictures accepted this many seconds before a server was killed may not be in its log yet (`appendfsync everysec`).
EVERYSEC_SECONDS = 2.0


@dataclass
class Sample:
    """The figures of the server at one time (Unix seconds). Sizes in bytes."""

    at: float
    used: int
    resident: int
    waiting: int
    #: Age in seconds of the oldest complete result; 0 if there is none.
    oldest_end: float

    @property
    def reserved(self) -> int:
        """Bytes in use, or reserved for the results of queued pictures."""
        return self.used + self.waiting * GROWTH_BYTES


def longest(spans: list[tuple[float, float]], where: list[tuple[float, float]]) -> float:
    """Return the longest part of a span within one of the windows."""
    parts = [min(b, d) - max(a, c) for a, b in spans for c, d in where]
    return max([0.0, *parts])


def windows(samples: list[Sample], holds: Callable[[Sample], bool]) -> list[tuple[float, float]]:
    """Return the periods in which a condition held."""
    found: list[tuple[float, float]] = []
    for sample in samples:
        if not holds(sample):
            continue
        if found and sample.at - found[-1][1] < 3 * SAMPLE_SECONDS:
            found[-1] = (found[-1][0], sample.at)
        else:
            found.append((sample.at, sample.at))
    return found


def without(where: list[tuple[float, float]], away: tuple[float, float]) -> list[tuple[float, float]]:
    """Return the windows without one span."""
    parts = [part for a, b in where for part in ((a, min(b, away[0])), (max(a, away[1]), b))]
    return [(a, b) for a, b in parts if a < b]


def figures(
    notes: Notes, samples: list[Sample], events: list[tuple[float, str]], start: float, end: float
) -> dict[str, Any]:
    """Return the figures: seconds, and MB (10^6 bytes)."""
    killed, ready = (next(at for at, name in events if name == which) for which in ("all killed", "ready"))
    away = (killed, ready)
    load = without([(start, end)], away)
    freeable = without(windows(samples, lambda sample: sample.oldest_end > URGENT_SECONDS), away)
    runs = [(run.first, run.last) for run in notes.runs]
    times = sorted([start, *(at for at in notes.accepted.values() if at < end), end])
    gaps = [(a, b) for a, b in pairwise(times) if any(a < at < b for at in notes.refused)]
    unended = [id for id in notes.accepted if id not in notes.ended]
    early = lambda id: not killed - EVERYSEC_SECONDS <= notes.accepted[id] <= ready  # noqa: E731
    lost = [id for id in unended if early(id)]
    seconds = sum(b - a for a, b in load)
    return {
        "accepted": len(notes.accepted), "ended": sum(id in notes.ended for id in notes.accepted),
        "states": dict(notes.states), "read_too_late": dict(notes.missed),
        "never_ended": len(lost), "never_ended_near_the_kill": len(unended) - len(lost),
        "answers": dict(notes.answers), "reasons": dict(notes.reasons),
        "accepted_per_s": round(len(notes.accepted) / seconds, 1),
        "refused_share": round(len(notes.refused) / max(1, sum(notes.answers.values())), 4),
        "longest_503_of_a_client_s": round(longest(runs, load), 2),
        "longest_503_of_a_client_while_something_could_go_s": round(longest(runs, freeable), 2),
        "most_503_in_a_row": max((run.count for run in notes.runs), default=0),
        "longest_without_a_202_s": round(longest(gaps, load), 2),
        "longest_without_a_202_while_something_could_go_s": round(longest(gaps, freeable), 2),
        "most_used_mb": round(max(one.used for one in samples) / 1e6, 1),
        "most_reserved_mb": round(max(one.reserved for one in samples) / 1e6, 1),
        "most_resident_mb": round(max(one.resident for one in samples) / 1e6, 1),
        "most_waiting": max(one.waiting for one in samples),
        "restart_s": round(ready - killed, 1),
    }  # fmt: skip


def broken(result: dict[str, Any], limit: int) -> list[str]:
    """Return the broken promises."""
    promised = [name for name in result if name.endswith("could_go_s")]
    return [
        *([f"{result['never_ended']} were accepted and never ended"] if result["never_ended"] else []),
        *([f"states {result['states']}"] if set(result["states"]) - {"succeeded"} else []),
        *(f"{name}: {result[name]}" for name in promised if result[name] > GOAL_SECONDS),
        *(["more memory was used than allowed"] if result["most_used_mb"] * 1e6 > OVER * limit else []),
        *(["memory was never full"] if result["most_reserved_mb"] * 1e6 < 0.85 * limit else []),
    ]


def drawn(
    notes: Notes, samples: list[Sample], events: list[tuple[float, str]], start: float, end: float, limit: int
) -> str:
    """Plot the run."""

    def per_second(times: list[float]) -> list[tuple[float, float]]:
        counts = [0] * (int(end - start) + 1)
        for at in times:
            if start <= at < end:
                counts[int(at - start)] += 1
        return [(second + 0.5, float(count)) for second, count in enumerate(counts)]

    def over(value: Callable[[Sample], float]) -> list[tuple[float, float]]:
        return [(one.at - start, value(one)) for one in samples if one.at < end]

    panels = [
        Panel("Pictures per second", {"accepted": per_second(list(notes.accepted.values())),
                                      "ended": per_second(list(notes.ended.values()))}, {}),
        Panel("503 answers per second", {"503": per_second(notes.refused)}, {}),
        Panel("Redis, MB", {"used": over(lambda one: one.used / 1e6),
                            "with what waits": over(lambda one: one.reserved / 1e6),
                            "resident": over(lambda one: one.resident / 1e6)},
              {"maxmemory": limit / 1e6}),
        Panel("Pictures that wait", {"queued": over(lambda one: one.waiting)}, {}),
        Panel("Age of the oldest end that is kept, s", {"oldest": over(lambda one: one.oldest_end)},
              {"kept at least": URGENT_SECONDS}),
    ]  # fmt: skip
    shown = [(at - start, name) for at, name in events]
    return timeline(f"Full load at {limit / 2**20:.0f} MB", panels, shown, end - start)
