"""Checks the health of this machine's web process or worker. Containers run it every few seconds in a new process.

So it imports neither redis-py nor urllib, which would take twice as long as the rest. Nor does it ask Redis: a worker
touches a file after each heartbeat that Redis replied to, even with an error, or could not be sent.

| Redis, at the worker's heartbeat | the worker is |
|---|---|
| replies, even with an error (loading, memory full, no permission) | healthy |
| is down: connection refused or reset, unknown host | healthy: restarting the worker would not help |
| is silent: packets are lost, or no reply comes on an open connection | unhealthy after `SILENT_SECONDS` |

The worker drops a connection that does not reply, and is healthy again after the next successful heartbeat.
"""

from __future__ import annotations

import os
import socket
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from shared.addresses import reachable
from shared.settings import Settings

#: A worker whose file is older is stuck, or its Redis is silent: heartbeats come every two seconds, or with each
#: attempt to reach Redis.
SILENT_SECONDS = 30.0


def _alive_file() -> Path:
    return Path(tempfile.gettempdir()) / f"digitq-worker-{os.getuid()}"


def alive() -> None:
    """Touch the file that says that a worker of this machine is alive; ignore a disk that cannot be written."""
    with suppress(OSError):
        _alive_file().touch()


def is_healthy(part: str, settings: Settings) -> bool:
    """Tell whether the web process answers, or (for another `part`) a worker was alive lately."""
    if part == "web":
        return _answers(reachable(settings.host).strip("[]"), settings.port)
    with suppress(OSError):
        return time.time() - _alive_file().stat().st_mtime < SILENT_SECONDS
    return False


def _answers(host: str, port: int) -> bool:
    with suppress(OSError), socket.create_connection((host, port), timeout=2) as connection:
        connection.sendall(f"GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        return connection.recv(64).split(b" ")[1:2] == [b"200"]
    return False
