"""From a `REDIS_URL` to a client: redis://, rediss://, unix://, and redis+sentinel:// for a primary that may move.

And what of its troubles is Redis's state, not our mistake.
"""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from shared.errors import MemoryFull, RedisUnavailable, SettingsError
from shared.followed import FollowedPool
from shared.sentinel import Follower
from shared.sentinel_report import Address, Report, look

log = logging.getLogger("digitq.redis")

#: Answers by which Redis says that it cannot serve now.
REFUSALS = (
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.ReadOnlyError,
    redis.exceptions.MasterDownError,
    redis.exceptions.NoPermissionError,
    redis.exceptions.AuthenticationError,
    redis.exceptions.NoScriptError,  # in a pipeline: another has just taken over, which has yet to learn it
)
#: Those without a class: the disk is full, replicas are away (`min-replicas-to-write`), the server has just become a
#: replica, a user of Redis lacks a right that a script needs.
REFUSED = ("MISCONF", "NOREPLICAS", "UNBLOCKED", "ACL failure", "The user executing the script")
#: What redis-py puts before the words of an error in a pipeline ends so.
IN_A_PIPELINE = " of pipeline caused error: "
#: Seconds after which to try again what a full memory has refused: room is made as soon as something has ended.
MEMORY_FULL_SECONDS = 2
SENTINEL = "redis+sentinel"
#: Seconds for a sentinel to answer in: two of three may be gone, and an upload is to be refused within a second.
SENTINEL_SECONDS = 0.15
#: Who only listens notices after some eleven seconds that the other machine is gone without a word.
KEEPALIVE = {
    getattr(socket, name): value
    for name, value in (("TCP_KEEPIDLE", 5), ("TCP_KEEPINTVL", 2), ("TCP_KEEPCNT", 3))
    if hasattr(socket, name)
}


@dataclass(frozen=True, slots=True)
class Service:
    """What `redis+sentinel://[user:password@]host:port,host:port/service[/db]` says; the user is Redis's."""

    sentinels: list[tuple[str, int]]
    name: str
    options: dict[str, Any]

    @classmethod
    def parse(cls, url: str) -> Service:
        """Raises SettingsError where the form is another."""
        parts = urlsplit(url)
        hosts = re.findall(r"(?:^|,)(\[[^\],]+\]|[^:,\[\]]+):(\d{1,5})(?=,|$)", parts.netloc.rpartition("@")[2])
        path = re.fullmatch(r"/([^/]+)(?:/(\d+))?/?", parts.path)
        if not path or len(hosts) != parts.netloc.count(",") + 1:
            raise SettingsError(f"REDIS_URL is not of the form {SENTINEL}://host:port,host:port/service[/db]")
        user, password = (unquote(text) if text else None for text in (parts.username, parts.password))
        options = {"db": int(path[2] or 0), "username": user, "password": password}
        return cls([(host.strip("[]"), int(port)) for host, port in hosts], path[1], options)

    def primary(self, **options: Any) -> redis.Redis:
        """A client that follows the primary, and lets go of one that is replaced."""
        pool = FollowedPool(Follower(self.sentinels, self.name), **self.options, **options)
        return redis.Redis.from_pool(pool)

    def leader(self) -> Address:
        """The primary, as the sentinel with the latest configuration has it. Raises redis-py's ConnectionError."""
        reports: list[Report] = []
        for host, port in self.sentinels:
            options: dict[str, Any] = {"socket_timeout": SENTINEL_SECONDS, "socket_connect_timeout": SENTINEL_SECONDS}
            client = redis.Redis(host, port, protocol=2, retry=Retry(NoBackoff(), 0), **options)
            with client, suppress(redis.RedisError, OSError):
                reports.append(look(client, self.name))
        if not reports:
            raise redis.ConnectionError(f"no sentinel knows the primary of {self.name}")
        return max(reports, key=lambda report: report.epoch).primary


def connect(url: str, *, timeout: float | None = 0.7, connections: int = 100) -> redis.Redis:
    """A client whose calls end within `timeout` seconds (None: a call may block), on up to so many connections at once.

    One repetition at once, on a fresh connection: what a restarted server leaves behind in the pool is no outage.
    """
    options: dict[str, Any] = {
        "socket_timeout": timeout, "socket_connect_timeout": 0.7, "health_check_interval": 0,
        "max_connections": connections,
        "retry": Retry(NoBackoff(), 1, supported_errors=(redis.exceptions.ConnectionError,)),
    }  # fmt: skip
    if not url.startswith("unix:"):
        options |= {"socket_keepalive": True, "socket_keepalive_options": KEEPALIVE}
    if url.startswith(f"{SENTINEL}:"):
        return Service.parse(url).primary(**options)
    return redis.Redis.from_url(url, **options)


def direct(url: str) -> str:
    """The URL of the server that serves now, for clients that know no sentinels. Raises redis-py's errors."""
    if not url.startswith(f"{SENTINEL}:"):
        return url
    service = Service.parse(url)
    host, port = service.leader()
    user = urlsplit(url).netloc.rpartition("@")
    return f"redis://{user[0]}{user[1]}{f'[{host}]' if ':' in host else host}:{port}/{service.options['db']}"


def turn(client: redis.Redis) -> int | None:
    """Changes when the client's primary is replaced: who listens to it by another connection has to leave it then.

    None without sentinels.
    """
    follower: Follower | None = getattr(client.connection_pool, "follower", None)
    return follower.turn if follower else None


@contextmanager
def redis_errors() -> Iterator[None]:
    """Turns whatever redis-py raises into a RedisUnavailable."""
    try:
        yield
    except (redis.RedisError, OSError) as error:
        refuses = isinstance(error, REFUSALS) or str(error).rpartition(IN_A_PIPELINE)[2].startswith(REFUSED)
        if isinstance(error, redis.ResponseError) and not refuses:
            raise  # our own mistake, not Redis's state
        # The cause names addresses: it is for the log, not for clients.
        log.warning("redis: %s", error)
        if isinstance(error, redis.exceptions.OutOfMemoryError):
            raise MemoryFull(retry_after_seconds=MEMORY_FULL_SECONDS) from error
        raise RedisUnavailable(retry_after_seconds=1) from error
