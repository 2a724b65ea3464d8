"""Measures one batch upload of many digits, and its effect on single uploads."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from typing import Any, cast

from benchmarks.contenders import Server
from benchmarks.picture import idx
from benchmarks.plan import Plan
from benchmarks.rounds import measure

#: Timeout of a batch in seconds.
PATIENCE_SECONDS = 120


class NoBulk(Exception):
    """The server does not accept batches; the text has its response."""


def bulk(server: Server, plan: Plan) -> dict[str, Any]:
    """Measures the time from upload to last result; then p99 of single uploads, when idle and beside a batch."""
    many, more = plan.bulk
    start = time.perf_counter()
    id = post(server, many)
    while not ended(batch := look(server, id, wait=20)):
        if time.perf_counter() - start > PATIENCE_SECONDS:
            raise NoBulk(f"{batch} after {PATIENCE_SECONDS} s")
    seconds = time.perf_counter() - start
    idle = measure(server, plan.seconds, clients=1, warm=plan.warm)
    id = post(server, more)
    # No `settle`: the concurrent load is intended.
    busy = measure(Unsettled(server.name, server.url, server.pid), plan.seconds, clients=1, warm=plan.warm)
    return {
        "digits": many,
        "seconds": seconds,
        "failed": batch["failed"],
        "idle_p99_ms": idle["ms"]["p99"],
        "busy_p99_ms": busy["ms"]["p99"],
        "busy_errors": busy["errors"],
        # False: the batch finished before the single uploads, so the ratio is too good.
        "busy_throughout": not ended(look(server, id)),
    }


class Unsettled(Server):
    """A server whose `settle` returns at once."""

    def settle(self, seconds: float = 0) -> None:
        """Return at once."""


def post(server: Server, count: int) -> str:
    """Upload `count` digits as one IDX file and return the batch's id. Raises NoBulk."""
    headers = {"Content-Type": "application/octet-stream", **dict(one.split(": ", 1) for one in server.headers)}
    request = urllib.request.Request(f"{server.url}/v1/batches", idx(count), headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return str(json.load(response)["id"])
    except urllib.error.HTTPError as error:
        raise NoBulk(f"POST /v1/batches answers {error.code}: {error.read(200).decode(errors='replace')}") from error
    except OSError as error:
        raise NoBulk(f"POST /v1/batches: {error}") from error


def look(server: Server, id: str, wait: int = 0) -> dict[str, Any]:
    """Return the batch, once it has ended or after `wait` seconds."""
    with urllib.request.urlopen(f"{server.url}/v1/batches/{id}?wait={wait}", timeout=60) as response:
        return cast("dict[str, Any]", json.load(response))


def ended(batch: dict[str, Any]) -> bool:
    return bool(batch["succeeded"] + batch["failed"] >= batch["total"])
