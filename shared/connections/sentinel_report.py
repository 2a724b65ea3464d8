"""Reads what one sentinel reports about a service: its primary, its replicas, its failovers."""

from __future__ import annotations

import ipaddress
import logging
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

log = logging.getLogger("digitq.redis")

Address = tuple[str, int]

#: Sentinel promotes no replica whose link was down for more than this many `down-after-milliseconds`.
LINK_DOWN_FACTOR = 10
#: Whether a failover begins with this event (a replica was selected: the old primary may lose what it accepts from now
#: on) or was given up (the old primary stays).
FAILOVERS = {
    "+selected-slave": True, "-failover-abort-not-elected": False, "-failover-abort-no-good-slave": False,
    "-failover-abort-slave-timeout": False,
}  # fmt: skip
#: Other changes after which to ask the sentinel at once.
CHANGES = ("+promoted-slave", "+switch-master", "+failover-end", "+slave", "+sdown", "-sdown", "+odown", "-odown")
#: Seconds between two questions to a sentinel that sends no event, and between two attempts to reach one.
LOOK_SECONDS = 1.0
#: Timeout in seconds of a sentinel that is listened to: only a background thread waits.
ANSWER_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Replica:
    """A sentinel's report about one replica."""

    #: It replicates, and the link to its primary, whichever that is, is up.
    follows: bool
    #: Sentinel could promote it now.
    eligible: bool


@dataclass(frozen=True, slots=True)
class Report:
    """A sentinel's report about the service."""

    epoch: int
    primary: Address
    #: The sentinel cannot reach the primary.
    down: bool
    #: The sentinel leads a failover and has not yet seen the replica promoted.
    moving: bool
    replicas: Mapping[Address, Replica]
    #: Counts changes of the address: of two reports with one epoch the later change is right.
    change: int = 0


@dataclass(frozen=True, slots=True)
class Failover:
    """A failover away from this primary begins, or was given up."""

    primary: Address
    begins: bool


def listen(where: Address, name: str, over: threading.Event) -> Iterator[Report | Failover | None]:
    """Yield each Failover and, once a second and after each change, a Report, or None while there is no answer.

    Connects again after any error; ends once `over` is set.
    """
    while not over.is_set():
        try:
            with sentinel_client(where, ANSWER_SECONDS) as client, client.pubsub() as events:
                events.subscribe(*FAILOVERS, *CHANGES)
                while not over.is_set():
                    yield look(client, name)
                    message = events.get_message(timeout=LOOK_SECONDS)
                    if message and (failover := failover_of(message, name)):
                        yield failover
        except Exception as error:  # also an answer that cannot be read
            log.debug("sentinel %s:%d: %s", *where, error)
            yield None
            over.wait(LOOK_SECONDS)


def sentinel_client(where: Address, seconds: float) -> redis.Redis:
    """Return a client of a sentinel with a timeout and without retries."""
    options: dict[str, Any] = {"socket_timeout": seconds, "socket_connect_timeout": seconds}
    return redis.Redis(*where, protocol=2, retry=Retry(NoBackoff(), 0), **options)


def look(client: redis.Redis, name: str) -> Report:
    """Asks a sentinel about the service.

    The order matters: the epoch rises when the promoted replica is seen to lead, and the address changes with it. Asked
    the other way round, the old address could come with the new epoch.
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


def failover_of(message: Mapping[str, Any], name: str) -> Failover | None:
    """Read an event: `master NAME ip port` or `slave … @ NAME ip port`, with the address of the (old) primary."""
    begins = FAILOVERS.get(message["channel"].decode())
    if message["type"] != "message" or begins is None:
        return None
    words = message["data"].decode().split()
    return Failover(address(words[-2], words[-1]), begins) if words[-3] == name else None


def _replica(said: Mapping[str, str], link_down_limit_ms: int) -> Replica:
    flags, never = {*said["flags"].split(",")}, said["slave-priority"] == "0"
    away = bool(flags & {"s_down", "o_down", "disconnected"}) or int(said["master-link-down-time"]) > link_down_limit_ms
    follows = said["role-reported"] == "slave" and said["master-link-status"] == "ok"
    return Replica(follows, eligible=not away and not never)


def _pairs(flat: Sequence[bytes]) -> dict[str, str]:
    words = [word.decode("utf-8", "replace") for word in flat]
    return dict(zip(words[::2], words[1::2], strict=True))


def address(host: str, port: Any) -> Address:
    """Return a comparable address: sentinels may give a host's name where the primary gives its IP address."""
    with suppress(ValueError):
        ipaddress.ip_address(host)
        return host, int(port)
    return _resolved(host, int(time.monotonic())), int(port)


@lru_cache(maxsize=256)
def _resolved(host: str, _second: int) -> str:
    """Resolve a host name, at most once a second; return the name itself if that fails."""
    with suppress(OSError):
        return socket.gethostbyname(host)
    return host
