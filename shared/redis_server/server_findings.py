"""Finds what in the state of a Redis could lose accepted predictions, from its INFO.

Levels: an `error` stops intake, a `warning` is logged and shown, a `note` appears only in `digitq config --check`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

from shared.redis_server.room import FULL_SHARE
from shared.settings import Settings

ERROR, WARNING, NOTE = "error", "warning", "note"
#: The oldest Redis that supports a `#!lua` line with flags. Every Valkey does; it reports Redis version 7.2.
OLDEST = (7, 0)


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding about a server: its level, a stable code, what is wrong, and what to do."""

    level: str
    code: str
    what: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.what}. {self.remedy[:1].upper()}{self.remedy[1:]}." if self.remedy else f"{self.what}."

    def to_json(self) -> dict[str, str]:
        """Return it as `digitq config --check --json` prints it."""
        return asdict(self)


def examine(info: Mapping[str, Any], settings: Settings, config: Mapping[str, str] | None = None) -> list[Finding]:
    """Return all findings about a server, the worst first.

    `info` is INFO as redis-py parses it; fields that a server leaves out are not checked. `config` has `save` and
    `appendfsync` if the user may read them (CONFIG GET).
    """
    persistence = _persistence(info, settings, config or {})
    return worst_first(chain(_kind(info), _memory(info, settings), persistence, _replicas(info, settings)))


def worst_first(found: Iterable[Finding]) -> list[Finding]:
    """Return the findings sorted by level."""
    return sorted(found, key=lambda one: (ERROR, WARNING, NOTE).index(one.level))


def _kind(info: Mapping[str, Any]) -> Iterator[Finding]:
    version = str(info.get("redis_version", ""))
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers and numbers < OLDEST:
        what = f"the server is a Redis {version}, and the scripts need 7.0"
        yield Finding(ERROR, "too_old", what, "use Redis 7.0 or newer, or Valkey")
    mode = info.get("redis_mode", info.get("server_mode"))
    if info.get("cluster_enabled") or mode == "cluster":
        what = "the server runs in cluster mode, and the scripts use keys of several slots at once"
        yield Finding(ERROR, "cluster_mode", what, "use a server with cluster-enabled no")
    if mode == "sentinel":
        what = "the address is a sentinel's, which keeps no pictures"
        yield Finding(ERROR, "sentinel", what, "write REDIS_URL as redis+sentinel://host:port,host:port/service")
    if info.get("role") == "slave":
        what = "the server is a replica, and refuses what is written"
        yield Finding(ERROR, "replica", what, "name the primary in REDIS_URL, or the sentinels")
    if info.get("loading"):
        share, left = info.get("loading_loaded_perc", "?"), info.get("loading_eta_seconds", "?")
        yield Finding(WARNING, "loading", f"the server loads its data: {share} %, {left} s left", "wait")


def _memory(info: Mapping[str, Any], settings: Settings) -> Iterator[Finding]:
    policy, limit, used = info.get("maxmemory_policy", ""), info.get("maxmemory"), int(info.get("used_memory", 0))
    if policy and policy != "noeviction":
        when = "when" if limit else "as soon as maxmemory is set and"
        what = f"maxmemory-policy is {policy}: {when} memory is full, the server deletes pictures that were accepted"
        yield Finding(ERROR, "eviction", what, "set maxmemory-policy noeviction")
    if limit == 0:
        what = "maxmemory is 0: the server grows until its machine has no memory left, and is killed"
        yield Finding(NOTE, "no_memory_limit", what, "set maxmemory")
    if limit and used > FULL_SHARE * limit:
        what = f"{used / limit:.0%} of maxmemory is used: ended predictions are deleted before their time"
        yield Finding(NOTE, "memory_nearly_full", what, "raise maxmemory, or lower DIGITQ_RESULT_TTL_SECONDS")
    if limit and settings.queue_max_bytes > limit // 2:
        what = f"DIGITQ_QUEUE_MAX_BYTES is {settings.queue_max_bytes}, more than half of maxmemory ({limit})"
        yield Finding(NOTE, "queue_too_large", what, "lower the one, or raise the other")


def _persistence(info: Mapping[str, Any], settings: Settings, config: Mapping[str, str]) -> Iterator[Finding]:
    level, accepted, or_accept = WARNING, "", ", or DIGITQ_ALLOW_EPHEMERAL=1 if that may be"
    if settings.allow_ephemeral == "1":
        level, accepted, or_accept = NOTE, " (accepted by DIGITQ_ALLOW_EPHEMERAL)", ""
    if info.get("aof_enabled") == 0:
        known = {None: " since its last snapshot, if it makes any,", "": ""}  # else there are snapshots
        kept = known.get(config.get("save"), " since its last snapshot")
        what = f"appendonly is no: what was accepted{kept} is lost when the server dies{accepted}"
        yield Finding(level, "no_log", what, f"set appendonly yes{or_accept}")
    elif config.get("appendfsync") == "no":
        what = f"appendfsync is no: what was accepted in the last half minute is lost when the machine dies{accepted}"
        yield Finding(level, "log_not_synced", what, f"set appendfsync everysec{or_accept}")
    for field, code, name in (
        ("aof_last_write_status", "log_not_written", "log"),
        ("rdb_last_bgsave_status", "snapshot_failed", "snapshot"),
    ):
        if info.get(field, "ok") != "ok":
            what = f"the server could not write its last {name}, and may refuse what is written ({field})"
            yield Finding(WARNING, code, what, "look at the space on its disk, and at its log")


def _replicas(info: Mapping[str, Any], settings: Settings) -> Iterator[Finding]:
    wanted, count = settings.replicas_ack, int(info.get("connected_slaves", 0))
    rows = [info.get(f"slave{number}") for number in range(count)]
    online = sum(not isinstance(row, dict) or row.get("state", "online") == "online" for row in rows)
    if info.get("role") != "slave" and online < wanted:
        what = f"DIGITQ_REPLICAS_ACK is {wanted} and {online} replicas are connected: uploads are answered 503"
        yield Finding(WARNING, "replicas_missing", what, "connect more replicas, or lower DIGITQ_REPLICAS_ACK")
