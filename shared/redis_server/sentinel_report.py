"""What a sentinel says of a service, and what it would do."""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import redis

Address = tuple[str, int]

#: A replica whose link to its primary is down for more than so many `down-after-milliseconds` is not promoted.
LINK_DOWN_FACTOR = 10


@dataclass(frozen=True, slots=True)
class Replica:
    """What a sentinel says of one."""

    #: It replicates, and its link to whatever it follows is up.
    follows: bool
    #: Sentinel could promote it now.
    eligible: bool


@dataclass(frozen=True, slots=True)
class Report:
    """What a sentinel says of the service."""

    epoch: int
    primary: Address
    #: It does not see the primary.
    down: bool
    #: It leads a failover and has not seen yet that the replica was promoted.
    moving: bool
    replicas: Mapping[Address, Replica]
    #: Counts changes of the address: of two reports with one epoch the later change is right.
    change: int = 0


def look(client: redis.Redis, name: str) -> Report:
    """What a sentinel says now.

    In this order: the epoch rises when the promoted replica is seen to lead, and the address changes with it. Asked the
    other way round, the old address could come with the new epoch.
    """
    service = _pairs(client.execute_command("SENTINEL", "MASTER", name))  # type: ignore[no-untyped-call]
    host, port = client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name)  # type: ignore[no-untyped-call]
    replicas = client.execute_command("SENTINEL", "REPLICAS", name)  # type: ignore[no-untyped-call]
    primary, flags = address(host.decode(), port), service["flags"].split(",")
    limit = LINK_DOWN_FACTOR * int(service["down-after-milliseconds"])
    return Report(
        epoch=int(service["config-epoch"]),
        primary=primary,
        down=bool({"s_down", "o_down"} & {*flags}),
        moving="failover_in_progress" in flags and primary == address(service["ip"], service["port"]),
        replicas={address(one["ip"], one["port"]): _replica(one, limit) for one in map(_pairs, replicas)},
    )


def _replica(said: Mapping[str, str], link_down_limit_ms: int) -> Replica:
    flags, never = {*said["flags"].split(",")}, said["slave-priority"] == "0"
    away = bool(flags & {"s_down", "o_down", "disconnected"}) or int(said["master-link-down-time"]) > link_down_limit_ms
    follows = said["role-reported"] == "slave" and said["master-link-status"] == "ok"
    return Replica(follows, eligible=not away and not never)


def _pairs(flat: Sequence[bytes]) -> dict[str, str]:
    words = [word.decode("utf-8", "replace") for word in flat]
    return dict(zip(words[::2], words[1::2], strict=True))


def address(host: str, port: Any) -> Address:
    """An address to compare: sentinels may name a host where the primary knows its number."""
    with suppress(ValueError):
        ipaddress.ip_address(host)
        return host, int(port)
    return _resolved(host, int(time.monotonic())), int(port)


@lru_cache(maxsize=256)
def _resolved(host: str, _second: int) -> str:
    """The number of a host, or its name where nobody knows it; asked for once a second, and not for each write."""
    with suppress(OSError):
        return socket.gethostbyname(host)
    return host
