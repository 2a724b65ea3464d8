"""The command `digitq verify`."""

from __future__ import annotations

import json
import logging
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import click
import redis

from producer import NEVER, Client
from shared.addresses import without_password
from shared.errors import ServerUnavailable
from shared.runtime.extras import require
from shared.standalone.embedded_server import server_binary
from shared.standalone.up import http_ok
from shared.store import connect
from verify.kinds import KINDS, WATCHED
from verify.pairs import PAIRS, kind_of, named
from verify.report import Report
from verify.run import verify as run
from verify.stack import WEB, WORKER, Stack, running

BROKEN = 1
#: Replicas of a stack with sentinels.
REPLICAS = 2


def chosen(_: click.Context, __: click.Parameter, text: str) -> list[str]:
    """Parse a list of faults and pairs."""
    everything = [*KINDS, *PAIRS]
    groups = {"all": everything, "single": [*KINDS], "pairs": [*PAIRS], "none": []}
    groups["sentinels"] = [name for name in everything if kind_of(name).stack == WATCHED]
    names: list[str] = []
    for name in filter(None, text.split(",")):
        try:
            names += groups[name] if name in groups else [named(name)]
        except KeyError:
            known = ", ".join([*KINDS, "two of them with a + between", *groups])
            raise click.BadParameter(f"{name}: known are {known}") from None
    return list(dict.fromkeys(names))


class Target(NamedTuple):
    """A deployment to verify: its URL, a connection to its Redis if possible, and its stack if faults may be played."""

    url: str
    redis: redis.Redis | None
    stack: Stack | None


@contextmanager
def own(workers: int, worker: str, web: str, logs: Path | None, watched: bool) -> Iterator[Target]:
    """Run a stack, with sentinels if wanted, in a temporary directory that is deleted at the end; `logs` are kept."""
    require("worker")
    server_binary()
    with tempfile.TemporaryDirectory(prefix="dqv-", ignore_cleanup_errors=True) as name:
        try:
            sentinels = (REPLICAS, {"DIGITQ_REPLICAS_ACK": "1"}) if watched else (0, {})
            with running(Path(name), workers, worker, web, sentinels[0], **sentinels[1]) as stack:
                yield Target(stack.url, stack.client, stack)
        finally:
            if logs:
                logs.mkdir(parents=True, exist_ok=True)
                for log in Path(name).glob("*.log"):
                    shutil.copy(log, logs)


@contextmanager
def deployed(url: str, redis_url: str | None) -> Iterator[Target]:
    """Return a running deployment. Raises ServerUnavailable if it does not answer."""
    if not http_ok(f"{url}/readyz"):
        raise ServerUnavailable(f"{without_password(url)}/readyz does not answer 200")
    client = connect(redis_url, timeout=5) if redis_url else None
    yield Target(url, client, None)
    if client:
        client.close()


def _end_when_told() -> None:
    """End the run in order on Ctrl-C and SIGTERM."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


@contextmanager
def undisturbed_end() -> Iterator[None]:
    """Ignore further signals after the body, so that all processes are stopped."""
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)


def explained() -> str:
    """Return the faults and pairs with their descriptions, a line each."""
    lines = ["\b", "Faults:", *(f"  {name:<18} {kind.fault.__doc__}" for name, kind in KINDS.items())]
    lines += ["", "\b", "Pairs: any two with a + between; the second comes before the first is mended. By itself:"]
    return "\n".join([*lines, *(f"  {name:<18} {words}" for name, words in PAIRS.items())])


@click.command(epilog=explained())
@click.option("--seconds", default=60.0, show_default=True, help="How long; every fault and pair comes at least once.")
@click.option("--workers", default=2, show_default=True, type=click.IntRange(1), help="Worker processes.")
@click.option(
    "--faults", default="all", callback=chosen, help="all, single, pairs, sentinels, none, or a list: kill,pause+cut,…"
)
@click.option("--rate", default=20.0, show_default=True, type=click.FloatRange(0.1), help="Pictures a second.")
@click.option("--seed", type=int, help="Of the plan; a run prints its own.")
@click.option("--json", "out", type=click.Path(dir_okay=False, path_type=Path), help="Write everything to this file.")
@click.option("--logs", type=click.Path(file_okay=False, path_type=Path), help="Keep what the processes said here.")
@click.option("--no-limits", is_flag=True, help="Do not hold recovery to its goals.")
@click.option("--url", help="Check the digitq that runs there, without breaking anything.")
@click.option("--redis", "redis_url", help="With --url: its Redis, to look for what was written twice.")
@click.option("--api-key", help="With --url.")
@click.option("--patience", default=30.0, hidden=True, help="Seconds to wait for what does not end.")
@click.option("--worker", default=WORKER, hidden=True, help="The module that is a worker, and its arguments.")
@click.option("--web", default=WEB, hidden=True, help="The module that is the web process, and its arguments.")
def verify(
    seconds: float, workers: int, faults: list[str], rate: float, seed: int | None, out: Path | None,
    logs: Path | None, no_limits: bool, url: str | None, redis_url: str | None, api_key: str | None,
    patience: float, worker: str, web: str,
) -> None:  # fmt: skip
    """Start a stack, break it, and check that nothing is lost.

    It submits pictures, and exits with 1 if a promise was broken. It starts its own stack in a temporary directory,
    kills, stops and starves its processes and its Redis, and records every answer. With --url it only loads and checks
    the deployment there. Faults that need several servers are played on a second stack, after the others.
    """
    if redis_url and not url:
        raise click.UsageError("--redis goes with --url: without it verify brings its own server")
    logging.getLogger("digitq").setLevel(logging.ERROR)  # Redis not answering is expected here
    seed = random.randrange(1_000_000) if seed is None else seed
    click.echo(f"seed {seed}", err=True)
    alone = [name for name in faults if kind_of(name).stack != WATCHED]
    several = [name for name in faults if kind_of(name).stack == WATCHED and not url]
    reports = []
    for names, watched in ((alone, False), (several, True)):
        if not names and (watched or several):
            continue
        _end_when_told()
        start = deployed(url, redis_url) if url else own(workers, worker, web, logs, watched)
        with start as target, closing(Client(target.url, api_key, retry=NEVER)) as client, undisturbed_end():
            report = run(
                client, seconds=seconds, seed=seed, rate=rate, stack=target.stack, kinds=names, direct=target.redis,
                limits=not no_limits, patience=patience, say=lambda text: click.echo(text, err=True),
            )  # fmt: skip
        click.echo(report.text())
        reports.append(report)
    if out:
        out.write_text(json.dumps(_joined(reports), indent=2) + "\n")
    if not all(report.kept for report in reports):
        click.echo("digitq: a promise was not kept", err=True)
        sys.exit(BROKEN)


def _joined(reports: list[Report]) -> dict[str, Any]:
    """Join the reports: the second one under `sentinels` if there were two stacks."""
    first, *second = (report.to_json() for report in reports)
    return {**first, "sentinels": second[0]} if second else first
