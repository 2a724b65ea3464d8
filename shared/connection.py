"""From a `REDIS_URL` to a client: redis://, rediss://, unix://, and redis+sentinel:// for a primary that may move."""

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
from redis.sentinel import Sentinel, SentinelManagedConnection

from shared.errors import SettingsError
from shared.pools import Pool, SentinelPool
from shared.redis_failures import unavailable
from shared.repeats import repeats

log = logging.getLogger("digitq.redis")

SENTINEL = "redis+sentinel"
#: Seconds for a sentinel to answer in: two of three may be gone, and an upload is to be refused within a second.
SENTINEL_SECONDS = 0.15
#: Who only listens notices after some eleven seconds that the other machine is gone without a word.
KEEPALIVE = {
    getattr(socket, name): value
    for name, value in (("TCP_KEEPIDLE", 5), ("TCP_KEEPINTVL", 2), ("TCP_KEEPCNT", 3))
    if hasattr(socket, name)
}


class PrimaryConnection(SentinelManagedConnection):
    """A connection to the primary that the sentinels name, closed after an answer that was not read to its end.

    redis-py 8.1 keeps it open: whoever has it next would read the answer to another's question.
    """

    def read_response(self, *args: Any, disconnect_on_error: bool | None = True, **options: Any) -> Any:
        """As in redis-py's other connections."""
        return super().read_response(*args, disconnect_on_error=disconnect_on_error, **options)


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
        """A client that asks the sentinels for the primary with every new connection."""
        options = {**self.options, **options, "connection_class": PrimaryConnection}
        return self.asked().master_for(self.name, **options)  # type: ignore[no-any-return, no-untyped-call]

    def asked(self) -> Sentinel:
        """Those to ask, none of which is waited for long."""
        seconds = {"socket_timeout": SENTINEL_SECONDS, "socket_connect_timeout": SENTINEL_SECONDS}
        options = {**seconds, "retry": Retry(NoBackoff(), 0)}
        return Sentinel(self.sentinels, sentinel_kwargs=options)  # type: ignore[no-untyped-call]


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
        return Service.parse(url).primary(connection_pool_class=SentinelPool, **options)
    return redis.Redis.from_pool(Pool.from_url(url, **options))


def direct(url: str) -> str:
    """The URL of the server that serves now, for clients that know no sentinels. Raises redis-py's errors."""
    if not url.startswith(f"{SENTINEL}:"):
        return url
    service = Service.parse(url)
    with service.asked() as sentinel:
        host, port = sentinel.discover_master(service.name)
    user = urlsplit(url).netloc.rpartition("@")
    return f"redis://{user[0]}{user[1]}{f'[{host}]' if ':' in host else host}:{port}/{service.options['db']}"


@contextmanager
def redis_errors() -> Iterator[None]:
    """Turns whatever redis-py raises into a RedisUnavailable that names the cause."""
    try:
        yield
        repeats.answered()
    except (redis.RedisError, OSError) as error:
        failure = unavailable(error)
        if failure is None:
            raise  # our own mistake, not Redis's state
        # The cause names addresses: it is for the log, not for clients.
        log.warning("redis: %s", error)
        raise failure from error


def is_unanswered(error: BaseException) -> bool:
    """Whether Redis, or the way to it, is deaf: neither an answer nor a refusal came within the timeout.

    `error` is redis-py's own, or the RedisUnavailable that it has caused.
    """
    return isinstance(error.__cause__ or error, (redis.TimeoutError, TimeoutError))
