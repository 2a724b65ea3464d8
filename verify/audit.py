"""Checks what Redis holds once everything has ended."""

from __future__ import annotations

from collections.abc import Iterable

import redis

from shared import keys
from shared.prediction import State
from verify.ledger import Entry, Finding

#: RQ's registries and statistics, which have no time to live, unlike keys of single jobs.
WITHOUT_TTL = ("rq:queues", "rq:workers", "rq:finished:", "rq:failed:", "rq:canceled:", "rq:worker:", "rq:clean_")


def results(client: redis.Redis, entries: Iterable[Entry]) -> list[Finding]:
    """Find predictions without exactly one RQ result: a second one was written by a worker whose lease was over.

    Those that did not succeed have one or none: a worker that was killed could not write one.
    """
    found = []
    for entry in entries:
        if entry.end and not entry.missing and not entry.forgotten_at:
            count = client.xlen(keys.return_values(entry.id))
            if not (entry.end.state == State.SUCCEEDED) <= count <= 1:
                found.append(Finding("doubled" if count else "wrong", entry.id, f"has {count} RQ results"))
    return found


def record(client: redis.Redis, id: str) -> str:
    """Describe what Redis holds of a prediction that has not ended: RQ's status, place in the queue, lease."""
    fields = client.hmget(keys.job(id), ["status", "origin", "digitq_run"])
    status, queue, run = (value.decode() if isinstance(value, bytes) else "" for value in fields)
    found = {
        "status": status, "run": run, "place": client.lpos(keys.queue(queue), id),
        "lease": client.zscore(keys.running(queue), f"{id}:{run.partition(':')[2]}"),
        "open": client.zscore(keys.OPEN, id), "now": client.time()[0],
    }  # fmt: skip
    return ", ".join(f"{name} {value}" for name, value in found.items())


def leftovers(client: redis.Redis) -> list[Finding]:
    """Find what an idle stack should not hold: queued or claimed jobs, and keys without a time to live."""
    found = []
    for name in keys.QUEUES:
        counts = {keys.queue(name): client.llen(keys.queue(name)), keys.running(name): client.zcard(keys.running(name))}
        found += [Finding("leftover", key, f"holds {count}") for key, count in counts.items() if count]
    counted = sum(int(value) for value in client.hvals("digitq:bytes"))
    found += [Finding("leftover", "digitq:bytes", f"counts {counted} bytes, and nothing waits")] if counted else []
    for raw in client.scan_iter(count=1000):
        key = raw.decode()
        if not key.startswith(WITHOUT_TTL) and client.ttl(key) == -1:
            found.append(Finding("leftover", key, "has no TTL"))
    return found
