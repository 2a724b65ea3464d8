"""Starts a stack for faults: the server, a proxy in front of it, the web process and the workers."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import redis

from shared import keys
from shared.errors import RedisUnavailable, SettingsError
from shared.settings import Settings
from shared.standalone.embedded_server import server_binary, server_options
from shared.standalone.up import environment, http_ok
from shared.store import Store, connect
from verify.children import Child, Children
from verify.proxy import Proxy
from verify.sentinels import Sentinels, sentinels

#: Seconds until everything must be ready; TensorFlow is slow to load on a busy machine.
START_SECONDS = 120
#: A process that dies more often than this without having been killed does not work at all.
MOST_DEATHS = 5
#: The modules of a worker and of the web process, with arguments.
WORKER, WEB = "digitq worker", "digitq web"


class Stack:
    """The processes of a running stack; `client` is a direct connection to Redis, without the proxy.

    With `sentinels`, their servers take the place of the one behind the proxy.
    """

    def __init__(
        self, folder: Path, children: Children, workers: int, worker: str = WORKER, web: str = WEB,
        sentinels: Sentinels | None = None, **env: str,
    ) -> None:  # fmt: skip
        socket_path = folder / "redis.sock"
        self.folder, self.proxy, self._sentinels = folder, Proxy(socket_path), sentinels
        self.client = connect(sentinels.url if sentinels else f"unix://{socket_path}", timeout=2)
        self.redis_url = sentinels.url if sentinels else f"redis://127.0.0.1:{self.proxy.port}/0"
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        # Temporary files of killed processes are then in the folder too.
        env = environment(
            REDIS_URL=self.redis_url, DIGITQ_HOST="127.0.0.1", DIGITQ_PORT=str(port), TMPDIR=str(folder), **env
        )
        self.settings = Settings.from_env(env)
        self.store = Store(self.client, self.settings)

        def child(name: str, *words: str) -> Child:
            return children.add(Child(name, words, env, folder))

        # Not started with sentinels, which have their own servers.
        server = Child("server", _server_command(folder, socket_path), env, folder)
        self.server = server if sentinels else children.add(server)

        python = (sys.executable, "-m")
        self.web = child("web", *python, *web.split())
        # The clock of the first can jump; otherwise it is like the others.
        first = child("worker-1", *python, f"{__package__}.crooked_clock", *worker.split())
        others = [child(f"worker-{number}", *python, *worker.split()) for number in range(2, workers + 1)]
        self.workers = [first, *others]

    @property
    def sentinels(self) -> Sentinels:
        """The sentinels; only in a stack with sentinels."""
        if not self._sentinels:
            raise AssertionError("this stack has one server alone")
        return self._sentinels

    def alive(self) -> list[Child]:
        """Return the workers that run and have sent a heartbeat."""
        with contextlib.suppress(RedisUnavailable):
            pids = {_pid(name) for name in self.store.workers()}
            return [child for child in self.workers if child.pid in pids]
        return []

    def holds(self, child: Child) -> bool:
        """True if a worker holds claims."""
        with contextlib.suppress(redis.RedisError, RedisUnavailable):
            names = [name for name in self.store.workers() if _pid(name) == child.pid]
            members: list[bytes] = [m for queue in keys.QUEUES for m in self.client.zrange(keys.running(queue), 0, -1)]  # type: ignore[misc]
            jobs = {member.decode().rpartition(":")[0] for member in members}
            holders = {self.client.hget(keys.job(id), "worker_name") for id in jobs}
            return any(name.encode() in holders for name in names)
        return False

    def answers(self) -> bool:
        """True if the server answers."""
        with contextlib.suppress(redis.RedisError):
            return bool(self.client.ping())
        return False

    def wait_whole(self, seconds: float) -> bool:
        """Wait until the web process is ready and every worker alive; return False if that takes too long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if len(self.alive()) == len(self.workers) and http_ok(f"{self.url}/readyz"):
                return True
            if any(len(codes) > MOST_DEATHS for codes in self.deaths().values()):
                return False
            time.sleep(0.1)
        return False

    def deaths(self) -> dict[str, list[int]]:
        """Return the exit codes of processes that died without having been killed by us."""
        return {child.name: child.deaths for child in (self.server, self.web, *self.workers) if child.deaths}

    def orphans(self) -> dict[str, int]:
        """Count the processes left by those that died."""
        return {child.name: len(left) for child in (self.web, *self.workers) if (left := child.orphans())}


@contextmanager
def running(
    folder: Path, workers: int, worker: str = WORKER, web: str = WEB, replicas: int = 0, **env: str
) -> Iterator[Stack]:
    """Start a stack with its data in `folder`, wait until it is ready, and stop it at the end.

    With `replicas` it has a primary, that many replicas, and three sentinels. `env` is for web process and workers.
    Raises SettingsError, with the output of the processes, if it does not get ready.
    """
    children = Children(folder)
    stack = None
    with ExitStack() as servers:
        try:
            watched = servers.enter_context(sentinels(folder, replicas)) if replicas else None
            stack = Stack(folder, children, workers, worker, web, watched, **env)
            if not stack.wait_whole(START_SECONDS):
                said = "\n".join(f"{child.name}: {child.log.read_text()[-500:]}" for child in children.all)
                raise SettingsError(f"the stack did not start\n{said}")
            yield stack
        finally:
            children.close()
            if stack:
                stack.client.close()
                stack.proxy.close()


def _server_command(folder: Path, socket_path: Path) -> Sequence[str]:
    """Return the command of a server with the options of the embedded one, without a supervisor to restart it."""
    options = {**server_options(folder, socket_path, 0), "logfile": ""}  # it logs to stdout
    return [server_binary(), *(text for name, value in options.items() for text in (f"--{name}", value))]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _pid(name: str) -> int:
    """Return the process id in a worker's name, host-pid-random; 0 if there is none on this machine."""
    text = name.rsplit("-", 2)[-2] if name.count("-") >= 2 else ""
    return int(text) if text.isdigit() and name.startswith(f"{os.uname().nodename}-") else 0
