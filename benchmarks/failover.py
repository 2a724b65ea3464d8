"""Measures what a change of the primary costs: accepted, lost, the longest outage, and how soon processes follow.

    python -m benchmarks.failover --times 10

A stack with three sentinels (`down-after-milliseconds` 1,000) serves four clients that never retry. The primary is
killed, demoted (`SENTINEL FAILOVER`), demoted and sent `REPLICAOF` at once (`repoint`), or asked to hand over
(`SENTINEL FAILOVER … COORDINATED`), `--times` times under load and once without. A row for each of these, number of
replicas, and `DIGITQ_REPLICAS_ACK`.
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import click
import redis

from benchmarks.picture import picture
from producer import NEVER, Client, Retry
from shared import keys
from shared.errors import DigitqError, Lost, RedisUnavailable, ServerUnavailable
from verify.sentinels import Sentinels, Server, wait_until
from verify.stack import Stack, running

CLIENTS = 4
#: Seconds between two pictures of a client, and before it retries a refused one.
PAUSE_SECONDS, AGAIN_SECONDS = 0.02, 0.05
#: Seconds of load before and after each change.
LOAD_SECONDS = 1.0
#: Timeout in seconds.
LONGEST_SECONDS = 60
PATIENT = Retry(attempts=1000, longest=1.0, seconds=120.0)


@dataclass
class Row:
    """The figures of one combination; times in seconds."""

    kind: str
    replicas: int
    acks: int
    times: int = 0
    accepted: int = 0
    lost: int = 0
    #: From the last accepted picture of a client to its next one, if a refusal lies in between.
    longest_503: float = 0.0
    median_503: float = 0.0
    #: Responses other than 202 and 503.
    other_errors: int = 0
    #: From the kill or the request until all sentinels agree on the new primary.
    sentinels: float = 0.0
    #: From then until the idle worker and the web process's subscription are connected to it.
    worker_follows: float = 0.0
    web_follows: float = 0.0


class Clients:
    """Submit pictures until the end of the `with`."""

    def __init__(self, url: str) -> None:
        self.accepted: list[str] = []
        self.outages: list[float] = []
        self.others: list[str] = []
        self._url, self._over = url, threading.Event()
        self._threads = [threading.Thread(target=self._submit) for _ in range(CLIENTS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _submit(self) -> None:
        image, _ = picture()
        client = Client(self._url, retry=NEVER)
        last, refused = time.monotonic(), False
        while not self._over.wait(AGAIN_SECONDS if refused else PAUSE_SECONDS):
            try:
                id = client.submit(image).id
            except DigitqError as error:
                if not isinstance(error, RedisUnavailable) or isinstance(error, ServerUnavailable):
                    self.others.append(str(error))
                refused = True
                continue
            self.accepted.append(id)
            if refused:
                self.outages.append(time.monotonic() - last)
            last, refused = time.monotonic(), False
        client.close()

    def goes_on(self, pictures: int) -> None:
        """Wait until this many more are accepted."""
        goal = len(self.accepted) + pictures
        wait_until(lambda: len(self.accepted) >= goal, LONGEST_SECONDS)


def change(watched: Sentinels, kind: str) -> tuple[float, list[Server]]:
    """Has another server lead. Returns the seconds until all sentinels agree, and the servers to start again."""
    if kind == "kill":
        dead, seconds = watched.kill()
        return seconds, [dead]
    old = watched.leading()
    seconds = watched.failover(*(["COORDINATED"] if kind == "handover" else []))
    if kind == "repoint":  # as Sentinel itself does, ten seconds later
        old.client.replicaof("127.0.0.1", str(watched.leader()))
    return seconds, []


def changed(watched: Sentinels, row: Row) -> tuple[float, list[Server]]:
    """Change the primary as the row says; start a killed one again if too few replicas are left without it.

    Returns how long the sentinels took, in seconds, and the servers that are still dead.
    """
    seconds, dead = change(watched, row.kind)
    if row.acks < row.replicas:
        return seconds, dead
    start(dead)  # without it nothing can be written
    return seconds, []


def measure(stack: Stack, row: Row, times: int) -> None:
    """Measures a row."""
    watched, outages = stack.sentinels, []
    accepted: list[str] = []
    for _ in range(times):
        wait_until(watched.whole, LONGEST_SECONDS)
        with Clients(stack.url) as clients:
            clients.goes_on(100)
            seconds, dead = changed(watched, row)
            clients.goes_on(100)
            time.sleep(LOAD_SECONDS)
        start(dead)
        accepted += clients.accepted
        outages += clients.outages
        row.other_errors += len(clients.others)
        row.times, row.sentinels = row.times + 1, max(row.sentinels, seconds)
    row.longest_503, row.median_503 = max(outages, default=0.0), sorted(outages)[len(outages) // 2] if outages else 0.0
    row.accepted, row.lost = len(accepted), lost(stack, accepted)
    wait_until(watched.whole, LONGEST_SECONDS)
    _, dead = changed(watched, row)
    began = time.monotonic()
    client = watched.leading().client
    web: float | None = None
    worker: float | None = None
    while web is None or worker is None:
        now = time.monotonic() - began
        with suppress(redis.RedisError):
            if web is None and client.pubsub_numsub(keys.EVENTS)[0][1]:
                web = now
            if worker is None and any(one["cmd"] == "blmove" for one in client.client_list()):
                worker = now
        if now > LONGEST_SECONDS:
            raise AssertionError("nobody follows")
        time.sleep(0.02)
    row.web_follows, row.worker_follows = web, worker
    start(dead)


def start(servers: Sequence[Server]) -> None:
    for server in servers:
        server.start()


def lost(stack: Stack, ids: Sequence[str]) -> int:
    """Count the accepted pictures that are answered 410 `lost`, or do not end."""
    found = 0
    client = Client(stack.url, retry=PATIENT)
    for id in ids:
        try:
            found += not client.get(id, wait=60).state.terminal
        except Lost:
            found += 1
    client.close()
    return found


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table."""
    heads = ("change", "replicas", "acks", "times", "accepted", "lost", "longest 503 (s)", "median 503 (s)",
             "sentinels agree (s)", "worker follows (s)", "web follows (s)")  # fmt: skip
    lines = [heads, ["---"] * len(heads)]
    for row in rows:
        seconds = (row.longest_503, row.median_503, row.sentinels, row.worker_follows, row.web_follows)
        counts = (row.kind, row.replicas, row.acks or "off", row.times, f"{row.accepted:,}", f"{row.lost:,}")
        lines.append([*map(str, counts), *(f"{one:.1f}" for one in seconds)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def plan(kinds: Sequence[str], replicas: Sequence[str], acks: Sequence[str]) -> Iterator[Row]:
    """Return a row for each combination in which uploads can be accepted."""
    for kind in kinds:
        for count in map(int, replicas):
            yield from (Row(kind, count, wanted) for wanted in map(int, acks) if wanted <= count)


@click.command()
@click.option("--times", default=3, show_default=True, help="Changes under load, each.")
@click.option("--kinds", default="kill,demote,repoint,handover", show_default=True)
@click.option("--replicas", default="1,2", show_default=True)
@click.option("--acks", default="0,1,2", show_default=True, help="DIGITQ_REPLICAS_ACK.")
@click.option("--json", "out", type=click.Path(dir_okay=False, path_type=Path))
def main(times: int, kinds: str, replicas: str, acks: str, out: Path | None) -> None:
    """Kill and demote the primary of a stack with sentinels under load, and count what is lost."""
    rows = []
    for row in plan(kinds.split(","), replicas.split(","), acks.split(",")):
        env = {"DIGITQ_REPLICAS_ACK": str(row.acks)}
        with (
            tempfile.TemporaryDirectory(prefix="dqf-", ignore_cleanup_errors=True) as name,
            running(Path(name), workers=1, replicas=row.replicas, **env) as stack,
        ):
            measure(stack, row, times)
        rows.append(row)
        print(table([row]).splitlines()[-1], file=sys.stderr, flush=True)
        if out:
            out.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
