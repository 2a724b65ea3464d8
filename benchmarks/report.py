"""Formats the records: medians over the repetitions with their range, and ratios within a repetition."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from benchmarks.contenders import TITLES
from benchmarks.rounds import Record

OURS = ("digitq", "digitq2")


def median(values: Sequence[float | None], digits: int = 1) -> str:
    """Return median and range as `12.3 (11.9–13.0)`; a dash if nothing was measured."""
    known = [one for one in values if one is not None]
    if not known:
        return "–"
    spread = f" ({min(known):,.{digits}f}–{max(known):,.{digits}f})" if len(known) > 1 else ""
    return f"{statistics.median(known):,.{digits}f}{spread}"


def cpu(record: Record) -> float | None:
    """Return CPU microseconds a picture over all processes of the server; None if unknown."""
    return sum(record["cpu_us"].values()) if record["cpu_us"] and record["answered"] else None


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def text(report: dict[str, Any]) -> str:
    """Return the report as Markdown."""
    return "\n\n".join(part for part in _parts(report) if part) + "\n"


def _parts(report: dict[str, Any]) -> Iterator[str]:
    m = report["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in m["versions"].items())
    yield (
        f"{m['cores']} × {m['cpu']}, {m['memory_gb']} GB, {m['system']}, Python {m['python']}, {m['redis_server']},"
        f" load before {m['load_before']}; all with the model {report['model']}; {versions}"
    )
    yield from (f"Not measured: {name}: {why}" for name, why in report["skipped"].items())
    if closed := report["closed"]:
        names = list(dict.fromkeys(one["server"] for one in closed))
        few, most = min(one["clients"] for one in closed), max(one["clients"] for one in closed)
        yield _closed(closed, names, few, most)
        yield _ratios(closed, names, few, most)
        yield _groups(closed, report.get("memory_mb", {}), names, most)
        yield _open(report["open"], names)
    yield _many(report.get("many"))
    yield from _worker(report.get("worker"))
    yield _bulk(report.get("bulk"))


def _closed(closed: Sequence[Record], names: Sequence[str], few: int, most: int) -> str:
    head = [f"closed loop: pictures/s, {most} clients", "p50 ms", "p99 ms", "p99.9 ms", "max ms", "CPU µs a picture",
            f"{few} client(s): p50 ms", "p99 ms", "errors"]  # fmt: skip
    rows = []
    for name in names:
        many = [one for one in closed if (one["server"], one["clients"]) == (name, most)]
        one_client = [one for one in closed if (one["server"], one["clients"]) == (name, few)]
        errors = sum((Counter(one["errors"]) for one in [*many, *one_client]), Counter())
        rows.append([
            f"{TITLES[name]}: {median([one['rate'] for one in many], 0)}",
            *(median([one["ms"][q] for one in many]) for q in ("p50", "p99", "p999", "max")),
            median([cpu(one) for one in many], 0),
            *(median([one["ms"][q] for one in one_client]) for q in ("p50", "p99")),
            ", ".join(f"{n} {kind}" for kind, n in errors.items()) or "0",
        ])  # fmt: skip
    return table(head, rows)


def ratios(
    records: Sequence[Record], clients: int, a: str, b: str, value: Callable[[Record], float | None]
) -> list[float]:
    """Return value(a) : value(b) for each repetition, so that measurements next to each other in time are compared."""
    found = {(one["server"], one["repetition"]): value(one) for one in records if one["clients"] == clients}
    pairs = [(found[key], found.get((b, key[1]))) for key in found if key[0] == a]
    return [x / y for x, y in pairs if x and y]


def _ratios(closed: Sequence[Record], names: Sequence[str], few: int, most: int) -> str:
    rows = []
    for a in (name for name in names if name in OURS):
        for b in (name for name in names if name not in OURS):
            rows.append([
                f"{TITLES[a]} : {TITLES[b]}",
                median(ratios(closed, most, a, b, lambda one: one["rate"]), 2),
                median(ratios(closed, most, a, b, cpu), 2),
                median(ratios(closed, few, a, b, lambda one: one["ms"]["p50"]), 2),
            ])  # fmt: skip
    head = ["ratio within a repetition", f"pictures/s, {most} clients", "CPU a picture", f"p50, {few} client(s)"]
    return table(head, rows) if rows else ""


def _groups(closed: Sequence[Record], memory: dict[str, dict[str, float]], names: Sequence[str], most: int) -> str:
    groups, rows = ("web", "redis", "worker", "other"), []
    for name in names:
        records = [one["cpu_us"] for one in closed if (one["server"], one["clients"]) == (name, most)]
        shares = [median([one[group] for one in records if group in one], 0) for group in groups]
        mb = memory.get(name, {})
        rows.append([TITLES[name], *shares, *(f"{mb[one]:.0f}" if one in mb else "–" for one in groups[:3])])
    heads = ["", *(f"{group}: CPU µs" for group in groups), "web MB", "redis MB", "one worker MB"]
    return table(heads, rows) if memory else ""


def _open(records: Sequence[Record], names: Sequence[str]) -> str:
    rows = []
    for name in names:
        ours = [one for one in records if one["server"] == name]
        for share in dict.fromkeys(one["share"] for one in ours):
            some = [one for one in ours if one["share"] == share]
            lost = sum(sum(one["errors"].values()) for one in some)
            rows.append([
                TITLES[name], f"{share:g}", *(median([one[key] for one in some], 0) for key in ("offered", "rate")),
                *(median([one["ms"][q] for one in some]) for q in ("p50", "p90", "p99", "p999", "max")),
                median([one["batch_size"] for one in some]), str(lost),
            ])  # fmt: skip
    head = ["open loop", "load", "arrivals/s", "answers/s", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "max ms",
            "batch size", "errors"]  # fmt: skip
    return table(head, rows)


def _many(records: Sequence[Record] | None) -> str:
    if not records:
        return ""
    usual = records[0]["load"]
    before = {one["repetition"]: one["rate"] for one in records if one["load"] == usual}
    rows = []
    for name in dict.fromkeys(one["load"] for one in records):
        some = [one for one in records if one["load"] == name]
        rows.append([
            name, median([one["rate"] for one in some], 0),
            median([one["rate"] / before[one["repetition"]] for one in some if before[one["repetition"]]], 2),
            *(median([one["ms"][q] for one in some]) for q in ("p50", "p99")),
            median([one["ms"]["p99"] / 1000 * one["rate"] / one["clients"] for one in some if one["ms"]["p99"]], 2),
            median([cpu(one) for one in some], 0), str(sum(sum(one["errors"].values()) for one in some)),
        ])  # fmt: skip
    head = ["digitq, 1 worker: clients", "pictures/s", f": {usual}", "p50 ms", "p99 ms", "p99 × pictures/s : clients",
            "CPU µs a picture", "errors"]  # fmt: skip
    return table(head, rows)


def _worker(worker: dict[str, Any] | None) -> Iterator[str]:
    if not worker:
        return
    rows = [
        [f"{one['pictures']:,.0f}", f"{one['rate']:,.0f}", f"{one['submits_per_s']:,.0f}", f"{one['redis_bytes']:,.0f}",
         f"{one['redis_cpu_us']:,.0f}", f"{one['first_claim_s']:.1f}"]
        for one in worker["drains"]
    ]  # fmt: skip
    yield table(["one worker, backlog", "pictures/s", "submits/s", "Redis bytes each, beyond the picture's",
                 "Redis CPU µs", "start to first claim s"], rows)  # fmt: skip
    noop = worker["noop"]
    yield (
        f"Large : small backlog {worker['rate_large_to_small']:.2f} in pictures/s;"
        f" worker CPU {worker['worker_cpu_us']:.0f} µs a picture."
        f" No-op classification: {noop['BatchWorker']['rate']:,.0f} jobs/s,"
        f" stock SimpleWorker {noop['SimpleWorker']['rate']:,.0f}, ratio {median(noop['ratios'])}."
    )


def _bulk(bulk: dict[str, Any] | None) -> str:
    if not bulk:
        return ""
    idle, busy = bulk["idle_p99_ms"], bulk["busy_p99_ms"]
    times = f", ×{busy / idle:.1f}" if idle and busy else ""
    note = "" if bulk["busy_throughout"] else " (the batch was over too soon: too good)"
    return (
        f"Bulk: {bulk['digits']:,} digits in one IDX upload, upload to last result {bulk['seconds']:.2f} s,"
        f" {bulk['failed']} failed. p99 of a single upload {idle or 0:.1f} ms idle, {busy or 0:.1f} ms beside a bulk"
        f" upload{times}{note}."
    )
