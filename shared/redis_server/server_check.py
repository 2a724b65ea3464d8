"""Checks the server behind a client as long as it is used, and refuses one that would lose accepted predictions."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import redis

from shared.connections.connection import redis_errors
from shared.connections.redis_failures import answered
from shared.errors import RedisMisconfigured, RedisUnavailable
from shared.redis_server.server_findings import ERROR, NOTE, WARNING, Finding, examine
from shared.settings import Settings

log = logging.getLogger("digitq.redis")

#: Seconds for which findings are valid; the second while one of them is an error.
KNOWN_SECONDS, WRONG_SECONDS = 5.0, 0.5
#: Seconds to wait for the first check, which another thread makes.
FIRST_SECONDS = 1.0


def read_config(client: redis.Redis) -> dict[str, str] | None:
    """Return the settings that INFO does not contain; None if the user may not read them."""
    try:
        config: Any = client.config_get("save", "appendfsync")
    except redis.ResponseError:
        return None
    return dict(config)


def read_server(
    client: redis.Redis,
    settings: Settings,
    read_config: Callable[[redis.Redis], dict[str, str] | None] = read_config,
) -> list[Finding]:
    """Return findings about the server that the client reaches; they name no address and no user.

    Raises RedisUnavailable.
    """
    with redis_errors():
        try:
            info: Any = client.info()
        except redis.ResponseError as error:  # NOPERM, or a proxy that does not know it
            log.debug("redis: INFO: %s", error)
            what = "INFO is refused, so that nothing could be checked"
            return [Finding(WARNING, "info_denied", what, "allow the user +info")]
        return examine(info, settings, read_config(client))


class ServerCheck:
    """Findings about the server behind a client, at most `KNOWN_SECONDS` old, since another server may take over.

    Logs findings when they appear and when they are gone. Thread-safe; one thread at a time asks the server.
    """

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        self._client, self._settings = client, settings
        # The server notes each refusal in its ACL LOG; the users of deploy/users.acl may not read the configuration.
        self._may_configure = not client.connection_pool.connection_kwargs.get("username")
        self._lock = threading.Lock()
        self._found: tuple[Finding, ...] | None = None
        self._until = float("-inf")

    @property
    def known(self) -> bool:
        """True while `findings` does not ask the server."""
        return time.monotonic() < self._until

    def findings(self) -> tuple[Finding, ...]:
        """Return errors and warnings, the worst first. Raises RedisUnavailable if the server does not answer."""
        if time.monotonic() < self._until:
            return self._found or ()
        if self._lock.acquire(timeout=FIRST_SECONDS if self._found is None else 0):
            try:
                if time.monotonic() >= self._until:
                    self._look()
            finally:
                self._lock.release()
        elif self._found is None:  # the thread that asks gets no answer either
            raise RedisUnavailable("Redis does not answer in time", retry_after_seconds=1)
        return self._found or ()

    def _look(self) -> None:
        found = self._read()
        if any(one.code == "replica" for one in found):
            # A demoted primary keeps its connections; a new one goes where the name or the sentinels point.
            self._client.connection_pool.disconnect(inuse_connections=False)
            found = self._read()
        known, codes = {one.code for one in self._found or ()}, {one.code for one in found}
        for one in found:
            if one.code not in known:
                log.log(logging.ERROR if one.level == ERROR else logging.WARNING, "redis: %s: %s", one.code, one)
        for code in sorted(known - codes):
            log.info("redis: %s is over", code)
        wrong = any(one.level == ERROR for one in found)
        self._found, self._until = found, time.monotonic() + (WRONG_SECONDS if wrong else KNOWN_SECONDS)

    def _read(self) -> tuple[Finding, ...]:
        found = read_server(self._client, self._settings, self._config)
        return tuple(one for one in found if one.level != NOTE)

    def _config(self, client: redis.Redis) -> dict[str, str] | None:
        config = read_config(client) if self._may_configure else None
        self._may_configure = config is not None
        return config

    def require(self) -> None:
        """Raise RedisMisconfigured if accepted predictions could be lost, RedisUnavailable if Redis cannot serve."""
        for one in self.findings():
            if one.code == "replica":  # as for a refused write: a primary is one while another takes over
                raise answered("READONLY") or RedisUnavailable()
            if one.level == ERROR:
                raise RedisMisconfigured(str(one), retry_after_seconds=5)

    def watch(self) -> None:
        """Check for ever, so that the log has the findings although no request asks for them."""
        while True:
            try:
                with suppress(RedisUnavailable):
                    self.findings()
            except Exception:  # whatever it is, the next server must be checked too
                log.exception("unexpected")
            time.sleep(KNOWN_SECONDS)
