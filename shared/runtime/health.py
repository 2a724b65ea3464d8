"""Is this machine's web process, or a worker of it, healthy? Containers ask it every few seconds, in a fresh process.

So it imports neither redis-py nor urllib: they would cost twice what the rest does. And it asks nothing of Redis, but
for a sign that the worker itself writes: after each heartbeat, unless that was not answered at all.

| Redis, as the worker's heartbeat finds it | the worker is |
|---|---|
| answers, with an error too (loading, memory full, no right) | healthy |
| is away: the connection is refused or reset, the name unknown | healthy: one that is restarted is only back later |
| is deaf: packets vanish, or the connection is open and answers do not come | unhealthy after `SILENT_SECONDS` |

The worker itself drops a connection that does not answer, and is healthy again with the first heartbeat that comes
through.
"""

from __future__ import annotations

import os
import socket
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from shared.settings import Settings

#: A worker that has given no sign for so long is stuck, or its Redis is deaf: its heartbeat comes every two seconds, or
#: with each attempt to reach a Redis that does not answer.
SILENT_SECONDS = 30.0


def _sign() -> Path:
    return Path(tempfile.gettempdir()) / f"digitq-worker-{os.getuid()}"


def alive() -> None:
    """A worker of this machine is alive now. Says nothing where there is no place to write it."""
    with suppress(OSError):
        _sign().touch()


def is_healthy(part: str, settings: Settings) -> bool:
    """The web process answers, or a worker has given a sign of life lately."""
    if part == "web":
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104  # compared, not bound
        return _answers(host, settings.port)
    with suppress(OSError):
        return time.time() - _sign().stat().st_mtime < SILENT_SECONDS
    return False


def _answers(host: str, port: int) -> bool:
    with suppress(OSError), socket.create_connection((host, port), timeout=2) as connection:
        connection.sendall(f"GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        return connection.recv(64).split(b" ")[1:2] == [b"200"]
    return False
