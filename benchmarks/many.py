"""Loads digitq with many clients, and with clients that poll, in turn with as many as the closed loop has."""

from __future__ import annotations

from typing import Any

from benchmarks.contenders import Server
from benchmarks.plan import Plan
from benchmarks.rounds import Record, Say, measure


def loads(plan: Plan) -> dict[str, dict[str, Any]]:
    """Return the loads by name; the others are compared with the first."""
    usual = max(plan.clients)
    found: dict[str, dict[str, Any]] = {f"{usual:,} wait": {"clients": usual}}
    found[f"{usual:,} poll"] = {"clients": usual, "polls": True}
    return found | {f"{clients:,} wait": {"clients": clients} for clients in plan.crowds}


def many(server: Server, plan: Plan, say: Say) -> list[Record]:
    """Measure each load `repetitions` times, each repetition in the other order."""
    records = []
    for repetition in range(plan.repetitions):
        for name, load in list(loads(plan).items())[:: -1 if repetition % 2 else 1]:
            one = measure(server, plan.seconds, warm=plan.warm, **load)
            records.append({"repetition": repetition, "load": name, "clients": load["clients"], **one})
            say(f"{name}: {one['rate']:.0f} pictures/s, p99 {one['ms']['p99'] or 0:.0f} ms")
    return records
