"""Acceptance that survives the primary: a write counts when the replicas that could replace it have it.

Which promise holds, with `DIGITQ_REPLICAS_ACK` of at least 1:

- Without sentinels, so many replicas have acknowledged the write (`WAIT`); which of them leads next is not known here.
- With sentinels *every* replica that Sentinel could promote has it, and at least so many. A number alone is not enough:
  Sentinel chooses by offsets that may be ten seconds old; and once a replica leads, the others still acknowledge what
  the old primary is told, until they follow the new one and lose that. The promoted replica never acknowledges it, so
  the old primary accepts nothing from the promotion on, whether this process knows of it yet or not.
- A replica that all sentinels see down, or have no connection to, does not count: it is away. One with priority 0 never
  does.

Which windows are left: a replica that was away, is back, and is promoted by hand before it has caught up; a process
that began during a failover and does not reach the sentinel that leads it; a second failover, within the ten seconds
that the old primary takes to follow, to that old primary, because no other replica is left.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import redis

from shared import keys
from shared.connections.connection import redis_errors
from shared.connections.sentinel import Follower, Snapshot
from shared.errors import RedisUnavailable
from shared.redis_server.sentinel_report import Address, address

log = logging.getLogger("digitq.redis")

#: How long replicas have to confirm what is accepted; shorter than `connect` waits for an answer.
REPLICAS_MS = 500


def acknowledged(client: redis.Redis, write: Callable[[Any], Any], wanted: int) -> Any:
    """What `write` answers, which puts one command into the pipeline that it is given, once replicas have all of it.

    Raises RedisUnavailable if they have not in time: it may have been done, but nobody has our word for it.
    """
    follower: Follower | None = getattr(client.connection_pool, "follower", None)
    with redis_errors(), client.pipeline(transaction=False) as pipeline:
        before = follower.snapshot() if follower else None
        write(pipeline)
        if follower:
            pipeline.info("replication")
        # WAIT is for what this connection has written, and for all before it: where the script only finds what
        # another has written, this has to be written.
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
    """Why a write does not count; empty if it does. `written` and `after` are INFO behind the write and behind WAIT."""
    online = _replicas(after)
    matter = {*online} - before.exempt
    if not follower.stands(before) or (written["role"], after["role"]) != ("master", "master"):
        return ", and the primary was replaced"
    follower.online(matter)
    late = [one for one in before.required | matter if online.get(one, -1) < written["master_repl_offset"]]
    return "".join(f", and {host}:{port} has not" for host, port in sorted(late))


def _replicas(info: Mapping[str, Any]) -> dict[Address, int]:
    """How far each replica that is online has confirmed what the primary has written, in bytes of its log."""
    said = [info.get(f"slave{number}") for number in range(int(info["connected_slaves"]))]
    return {address(one["ip"], one["port"]): int(one["offset"]) for one in said if one and one["state"] == "online"}
