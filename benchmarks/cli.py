"""The command `digitq bench`: starts the servers to compare, or measures a running one."""

from __future__ import annotations

import json
import os
import signal
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from benchmarks import plots, report
from benchmarks.alone import alone
from benchmarks.bulk import NoBulk, bulk
from benchmarks.contenders import TITLES, Broken, Server, missing, start
from benchmarks.machine import describe
from benchmarks.many import many
from benchmarks.plan import FULL, QUICK, Plan
from benchmarks.rounds import Record, closed, measure, open_loop
from benchmarks.servers.__main__ import MODEL
from shared import ROOT
from shared.addresses import without_password
from shared.settings import SHIPPED_MODEL

NAMES = tuple(name for name in TITLES if name != "url")
Report = dict[str, Any]


def say(text: str) -> None:
    """Print progress."""
    click.echo(text, err=True)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--url", help="Measure the digitq that runs there, and nothing else.")
@click.option("--header", multiple=True, help="For --url: sent with every request, such as 'Authorization: Bearer …'.")
@click.option(
    "--only", multiple=True, type=click.Choice([*NAMES, "worker", "many"]), help="Measure these; may be repeated."
)
@click.option("--repetitions", type=click.IntRange(min=1), help="Rounds of the closed loop.  [default: 3]")
@click.option(
    "--model",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    help="Folder of the model that all of them serve.  [default: the one in service]",
)
@click.option("--quick", is_flag=True, help="Seconds instead of minutes: shows that everything runs, measures nothing.")
@click.option("--json", "file", type=click.Path(dir_okay=False, path_type=Path), help="Where the report goes, as JSON.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder for the report and its pictures.")
def bench(
    url: str | None, header: tuple[str, ...], only: tuple[str, ...], repetitions: int | None, model: Path | None,
    quick: bool, file: Path | None, out: Path | None,
) -> None:  # fmt: skip
    """Compare digitq with its alternatives, side by side; about eleven minutes on a quiet machine.

    \b
    digitq bench --out var/bench/report
    digitq bench --url http://127.0.0.1:8000
    """
    plan = QUICK if quick else FULL
    plan = replace(plan, repetitions=repetitions) if repetitions else plan
    if model:
        os.environ[MODEL] = str(model.resolve())
    previous = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        found = deployed(url, header, plan) if url else side_by_side(only or (*NAMES, "worker", "many"), plan)
    finally:
        signal.signal(signal.SIGTERM, previous)
    click.echo(report.text(found), nl=False)
    if file:
        file.write_text(json.dumps(found, indent=1) + "\n")
    if out:
        write(found, out)
        say(f"the report is in {out}")


def deployed(url: str, header: Sequence[str], plan: Plan) -> Report:
    """Measures closed and open loop of a running server."""
    server = Server("url", url.rstrip("/"), headers=tuple(header))
    first = measure(server, plan.seconds, clients=4)
    if not first["answered"]:
        raise Broken(f"{without_password(url)} gave no right answer: {first['errors']}")
    records = closed([server], plan, say)
    return {**_head(plan), "closed": records, "open": open_loop([server], records, plan, say)}


def side_by_side(names: Sequence[str], plan: Plan) -> Report:
    """Measures all servers, started together; those that cannot run are skipped with a reason."""
    found: Report = {**_head(plan), "closed": [], "open": []}
    base = ROOT / "var" / "bench"
    base.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="run-", dir=base) as folder:
        if "worker" in names:
            say("one worker alone")
            found["worker"] = alone(Path(folder) / "alone", plan)
        if "many" in names:
            with start("digitq", Path(folder) / "many") as server:
                measure(server, plan.seconds, clients=8)
                found["many"] = many(server, plan, say)
        with ExitStack() as stack:
            servers = [
                server
                for name in names
                if name in NAMES and (server := _started(stack, name, Path(folder), found["skipped"]))
            ]
            if servers:
                found |= _measured(servers, plan, found["skipped"])
    return found


def _head(plan: Plan) -> Report:
    model = Path(os.environ.get(MODEL, SHIPPED_MODEL)).name
    return {"machine": describe(), "plan": asdict(plan), "model": model, "skipped": {}}


def _started(stack: ExitStack, name: str, folder: Path, skipped: dict[str, str]) -> Server | None:
    if why := missing(name):
        skipped[TITLES[name]] = why
        say(f"{TITLES[name]}: {why}")
        return None
    say(f"starting {TITLES[name]}")
    return stack.enter_context(start(name, folder / name))


def _measured(servers: Sequence[Server], plan: Plan, skipped: dict[str, str]) -> Report:
    for server in servers:
        measure(server, plan.seconds, clients=8)
    records = closed(servers, plan, say)
    found = {"closed": records, "memory_mb": {server.name: server.memory() for server in servers}}
    found |= {"open": open_loop(servers, records, plan, say)}
    ours = [server for server in servers if server.name in report.OURS]
    try:
        found |= {"bulk": bulk(ours[-1], plan)} if ours else {}
    except (NoBulk, OSError, KeyError) as error:
        skipped["bulk uploads and fairness"] = f"{error!r}" if isinstance(error, KeyError) else str(error)
    return found


def write(found: Report, folder: Path) -> None:
    """report.json, report.md, latency.svg and batch_size.svg in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(found, indent=1) + "\n")
    (folder / "report.md").write_text(report.text(found))
    records, load = found["open"], "arrivals a second"
    p99, p50 = curves(records, lambda one: one["ms"]["p99"]), curves(records, lambda one: one["ms"]["p50"])
    title = "Latency over load, open loop: p99, dashed p50"
    (folder / "latency.svg").write_text(plots.plot(title, load, "ms from the intended time", p99, p50))
    sizes = curves([one for one in records if one["server"] in (*report.OURS, "url")], lambda one: one["batch_size"])
    (folder / "batch_size.svg").write_text(plots.plot("Batch size over load", load, "pictures a batch", sizes, {}))


def curves(records: Sequence[Record], value: Callable[[Record], float | None]) -> dict[str, list[tuple[float, float]]]:
    """Title of the server -> (arrivals/s, median of the value over the repetitions) for every load."""
    groups: dict[tuple[str, float, float], list[float]] = {}
    for one in records:
        if (found := value(one)) is not None:
            groups.setdefault((one["server"], one["share"], one["offered"]), []).append(found)
    lines: dict[str, list[tuple[float, float]]] = {}
    for (name, _, offered), values in groups.items():
        lines.setdefault(TITLES[name], []).append((offered, statistics.median(values)))
    return lines
