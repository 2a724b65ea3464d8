"""Runs closed and open loops over all servers in turn (A B C, B C A, ...), so that drift affects all alike."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.client import Load
from benchmarks.contenders import TITLES, Server
from benchmarks.picture import picture
from benchmarks.plan import Plan
from shared import ROOT

Record = dict[str, Any]
Say = Callable[[str], None]


def measure(server: Server, seconds: float, **load: Any) -> Record:
    """Run a load from its own process; return its Result, and CPU microseconds a picture by group."""
    body, digit = picture()
    words = asdict(Load(server.url, b64encode(body).decode(), digit, seconds, headers=server.headers, **load))
    server.settle()
    before = server.cpu()
    client = [sys.executable, "-m", "benchmarks.client"]
    done = subprocess.run(client, input=json.dumps(words), cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    after = server.cpu()
    result: Record = json.loads(done.stdout)
    pictures = result["answered"] or 1
    result["cpu_us"] = {name: 1e6 * (after[name] - before.get(name, 0.0)) / pictures for name in after}
    return {"server": server.name, **result}


def in_turn(servers: Sequence[Server], repetition: int) -> Iterator[Server]:
    """Yield all servers, each repetition starting with another one."""
    first = repetition % len(servers)
    yield from [*servers[first:], *servers[:first]]


def closed(servers: Sequence[Server], plan: Plan, say: Say) -> list[Record]:
    """Measures every server with each number of clients, `repetitions` times."""
    records = []
    for repetition in range(plan.repetitions):
        for clients in plan.clients:
            for server in in_turn(servers, repetition):
                one = measure(server, plan.seconds, clients=clients, warm=plan.warm)
                records.append({"repetition": repetition, "clients": clients, **one})
                say(f"{TITLES[server.name]}: {clients} client(s), {one['rate']:.0f} pictures/s")
    return records


def open_loop(servers: Sequence[Server], reached: Sequence[Record], plan: Plan, say: Say) -> list[Record]:
    """Measures every server under Poisson arrivals at shares of its closed-loop throughput."""
    records = []
    for repetition in range(plan.open_repetitions):
        for share in plan.shares:
            for server in in_turn(servers, repetition):
                rate = max(1.0, share * capacity(server.name, reached))
                load = {"rate": rate, "warm": plan.warm, "seed": repetition}
                one = measure(server, plan.open_seconds + plan.warm, **load)
                records.append({"repetition": repetition, "share": share, "offered": rate, **one})
                say(f"{TITLES[server.name]}: {rate:.0f} arrivals/s, p99 {one['ms']['p99'] or 0:.1f} ms")
    return records


def capacity(name: str, records: Sequence[Record]) -> float:
    """Return the median pictures/s of a server with the most clients."""
    most = max(one["clients"] for one in records)
    return statistics.median(float(one["rate"]) for one in records if one["server"] == name and one["clients"] == most)
