"""Waits until replicas have acknowledged a write, so that what is accepted survives the loss of the primary.

With `DIGITQ_REPLICAS_ACK` of at least 1 a write counts:

- Without sentinels, once that many replicas have acknowledged it (`WAIT`). Which replica leads next is not known.
- With sentinels, once that many have, and among them *every* replica that Sentinel could promote. A number alone is not
  enough: Sentinel chooses by offsets that may be ten seconds old, and after a promotion the other replicas acknowledge
  writes of the old primary until they follow the new one and drop those writes. The promoted replica never acknowledges
  them, so nothing is accepted by the old primary after the promotion, even if this process has not heard of it yet.
- A replica that all sentinels see down or disconnected is not required, nor is one with priority 0.

Three gaps remain: a replica that was down, is back, and is promoted by hand before it has caught up; a process that
starts during a failover and cannot reach the sentinel that leads it; a second failover back to the old primary, within
the ten seconds before it follows, because no other replica is left.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import redis

from shared import keys
from shared.connections.connection import redis_errors
from shared.connections.pools import follower_of
from shared.connections.sentinel import Follower, Snapshot
from shared.connections.sentinel_report import Address, address
from shared.errors import RedisUnavailable

log = logging.getLogger("digitq.redis")

#: Milliseconds for replicas to acknowledge; shorter than the timeout of `connect`.
REPLICAS_MS = 500


def acknowledged(client: redis.Redis, write: Callable[[Any], Any], wanted: int) -> Any:
    """Return the reply to the one command that `write` adds to a pipeline, once replicas have acknowledged it.

    Raises RedisUnavailable if they do not in time: the write may have been done, but must not be reported as accepted.
    """
    follower = follower_of(client)
    with redis_errors(), client.pipeline(transaction=False) as pipeline:
        before = follower.snapshot() if follower else None
        write(pipeline)
        if follower:
            pipeline.info("replication")
        # WAIT covers what this connection has written, and all before it: a script that only finds what another
        # connection has written needs this write.
        pipeline.set(keys.READY, 1, ex=10)
        pipeline.wait(max(wanted, before.count if before else 0), REPLICAS_MS)
        if follower:
            pipeline.info("replication")
        answer, *rest = pipeline.execute()
    have, missing = rest[1], ""
    if follower and before:
        written, _, have, after = rest
        missing = missed(follower, before, written, after)
    if have < wanted or missing:
        log.warning("redis: %d replicas have it after %d ms, of %d%s", have, REPLICAS_MS, wanted, missing)
        raise RedisUnavailable("Too few replicas of Redis have confirmed it in time", retry_after_seconds=1)
    return answer


def missed(follower: Follower, before: Snapshot, written: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Return why a write does not count, "" if it does. `written` and `after`: INFO after the write and after WAIT."""
    online = _replicas(after)
    required = {*online} - before.exempt
    if (written["role"], after["role"]) != ("master", "master") or not follower.confirm(before, required):
        return ", and the primary was replaced"
    late = [one for one in before.required | required if online.get(one, -1) < written["master_repl_offset"]]
    return "".join(f", and {host}:{port} has not" for host, port in sorted(late))


def _replicas(info: Mapping[str, Any]) -> dict[Address, int]:
    """Return the offset in the replication stream that each online replica has acknowledged."""
    said = [info.get(f"slave{number}") for number in range(int(info["connected_slaves"]))]
    return {address(one["ip"], one["port"]): int(one["offset"]) for one in said if one and one["state"] == "online"}
