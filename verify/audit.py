"""Checks what is left in Redis once everything has finished."""

from __future__ import annotations

from collections.abc import Iterable

import redis

from shared import keys
from shared.prediction import State
from verify.ledger import Entry, Finding

#: RQ's registries and statistics, which have no TTL; the keys of a job have one.
WITHOUT_TTL = ("rq:queues", "rq:workers", "rq:finished:", "rq:failed:", "rq:canceled:", "rq:worker:", "rq:clean_")


def results(client: redis.Redis, entries: Iterable[Entry]) -> list[Finding]:
    """Finds succeeded predictions without exactly one RQ result; a second one was written after a lease had expired.

    Predictions that failed have one or none: a killed worker could not write one.
    """
    found = []
    for entry in entries:
        if entry.end and not entry.missing and not entry.forgotten_at:
            count = client.xlen(keys.return_values(entry.id))
            if not (entry.end.state == State.SUCCEEDED) <= count <= 1:
                found.append(Finding("doubled" if count else "wrong", entry.id, f"has {count} RQ results"))
    return found


def leftovers(client: redis.Redis) -> list[Finding]:
    """Finds queued or claimed jobs of an idle stack, and keys without a TTL."""
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
