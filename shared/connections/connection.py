"""Makes clients from a `REDIS_URL`: redis://, rediss://, unix://, and redis+sentinel:// for a primary that may move."""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError

from shared.connections.pools import FollowedPool, Pool, follower_of
from shared.connections.redis_failures import unavailable
from shared.connections.sentinel import Follower
from shared.connections.sentinel_report import Address, Report, look, sentinel_client
from shared.errors import SettingsError
from shared.runtime.repeats import repeats

log = logging.getLogger("digitq.redis")

SENTINEL = "redis+sentinel"
#: Timeout of a sentinel in seconds: two of three may be down, and an upload must be refused within a second.
SENTINEL_SECONDS = 0.15
#: A subscriber notices after eleven seconds that the other machine is gone.
KEEPALIVE = {
    getattr(socket, name): value
    for name, value in (("TCP_KEEPIDLE", 5), ("TCP_KEEPINTVL", 2), ("TCP_KEEPCNT", 3))
    if hasattr(socket, name)
}


@dataclass(frozen=True, slots=True)
class Service:
    """A parsed `redis+sentinel://[user:password@]host:port,host:port/service[/db]`; the user is Redis's."""

    sentinels: list[tuple[str, int]]
    name: str
    options: dict[str, Any]

    @classmethod
    def parse(cls, url: str) -> Service:
        """Parse the URL. Raises SettingsError."""
        parts = urlsplit(url)
        hosts = re.findall(r"(?:^|,)(\[[^\],]+\]|[^:,\[\]]+):(\d{1,5})(?=,|$)", parts.netloc.rpartition("@")[2])
        path = re.fullmatch(r"/([^/]+)(?:/(\d+))?/?", parts.path)
        if not path or len(hosts) != parts.netloc.count(",") + 1:
            raise SettingsError(f"REDIS_URL is not of the form {SENTINEL}://host:port,host:port/service[/db]")
        user, password = (unquote(text) if text else None for text in (parts.username, parts.password))
        options = {"db": int(path[2] or 0), "username": user, "password": password}
        return cls([(host.strip("[]"), int(port)) for host, port in hosts], path[1], options)

    def primary(self, **options: Any) -> redis.Redis:
        """Return a client that follows the primary."""
        pool = FollowedPool(Follower(self.sentinels, self.name), **self.options, **options)
        return redis.Redis.from_pool(pool)

    def leader(self) -> Address:
        """Return the primary by the sentinel with the latest configuration. Raises redis-py's ConnectionError."""
        reports = [said for _, said in self.reports(SENTINEL_SECONDS) if isinstance(said, Report)]
        if not reports:
            raise MasterNotFoundError(f"no sentinel knows the primary of {self.name}")
        return max(reports, key=lambda report: report.epoch).primary

    def reports(self, seconds: float) -> Iterator[tuple[Address, Report | Exception]]:
        """Yield each sentinel with its report, or with what went wrong within that many seconds."""
        for where in self.sentinels:
            try:
                with sentinel_client(where, seconds) as client:
                    yield where, look(client, self.name)
            except (redis.RedisError, OSError, KeyError) as error:
                yield where, error


def connect(url: str, *, timeout: float | None = 0.7, connections: int = 100) -> redis.Redis:
    """Return a client whose calls time out after `timeout` seconds (None: never), with a pool of `connections`.

    A call that fails is retried once, at once, on a fresh connection: those left over from before a restart of the
    server must not look like an outage.
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
    return redis.Redis.from_pool(Pool.from_url(url, **options))


def direct(url: str) -> str:
    """Return the URL of the current primary, for clients that know no sentinels. Raises redis-py's errors."""
    if not url.startswith(f"{SENTINEL}:"):
        return url
    service = Service.parse(url)
    host, port = service.leader()
    user = urlsplit(url).netloc.rpartition("@")
    return f"redis://{user[0]}{user[1]}{f'[{host}]' if ':' in host else host}:{port}/{service.options['db']}"


def turn(client: redis.Redis) -> int | None:
    """Return a number that changes when the client's primary is replaced, so that subscribers elsewhere reconnect.

    None without sentinels.
    """
    follower = follower_of(client)
    return follower.turn if follower else None


@contextmanager
def redis_errors() -> Iterator[None]:
    """Raise a RedisUnavailable that names the cause for whatever redis-py raises inside."""
    try:
        yield
        repeats.answered()
    except (redis.RedisError, OSError) as error:
        failure = unavailable(error)
        if failure is None:
            raise  # a bug of ours, not Redis's state
        # The original error contains addresses: it is for the log, not for clients.
        log.warning("redis: %s", error)
        raise failure from error


def is_unanswered(error: BaseException) -> bool:
    """Return whether Redis timed out, with neither an answer nor a refusal.

    `error` is redis-py's, or the RedisUnavailable that was raised from it.
    """
    return isinstance(error.__cause__ or error, (redis.TimeoutError, TimeoutError))
