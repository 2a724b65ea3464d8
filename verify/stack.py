"""A stack to break: the server, a proxy in front of it, the web process and the workers, all children of ours."""

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
from shared.standalone.home import environment, http_ok, server_binary
from shared.store import Store, connect
from verify.children import Child, Children
from verify.proxy import Proxy
from verify.sentinels import Sentinels, sentinels

#: Seconds that everything may take to be ready: TensorFlow on a busy machine.
START_SECONDS = 120
#: A process that dies by itself more often than this does not work at all.
MOST_DEATHS = 5
#: The modules that are a worker and the web process, and their arguments.
WORKER, WEB = "digitq worker", "digitq web"


class Stack:
    """What runs, and how to ask after it: `client` goes to the server directly, not through the proxy.

    With `sentinels` there are their servers instead of one behind a proxy.
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
        # What the killed leave behind is then in the folder too.
        env = environment(
            REDIS_URL=self.redis_url, DIGITQ_HOST="127.0.0.1", DIGITQ_PORT=str(port), TMPDIR=str(folder), **env
        )
        self.settings = Settings.from_env(env)
        self.store = Store(self.client, self.settings)

        def child(name: str, *words: str) -> Child:
            return children.add(Child(name, words, env, folder))

        # With sentinels nobody starts it: their servers are no children of ours.
        server = Child("server", _server_command(folder, socket_path), env, folder)
        self.server = server if sentinels else children.add(server)

        python = (sys.executable, "-m")
        self.web = child("web", *python, *web.split())
        # The clock of the first can be made to jump; otherwise it is like the others.
        first = child("worker-1", *python, "verify.crooked_clock", *worker.split())
        others = [child(f"worker-{number}", *python, *worker.split()) for number in range(2, workers + 1)]
        self.workers = [first, *others]

    @property
    def sentinels(self) -> Sentinels:
        """Those who watch the servers, where there are any."""
        if not self._sentinels:
            raise AssertionError("this stack has one server alone")
        return self._sentinels

    def alive(self) -> list[Child]:
        """The workers that serve: the process is there and has sent a heartbeat."""
        with contextlib.suppress(RedisUnavailable):
            pids = {_pid(name) for name in self.store.workers()}
            return [child for child in self.workers if child.pid in pids]
        return []

    def holds(self, child: Child) -> bool:
        """True if a worker has claims in its hands."""
        with contextlib.suppress(redis.RedisError, RedisUnavailable):
            names = [name for name in self.store.workers() if _pid(name) == child.pid]
            members: list[bytes] = [m for queue in keys.QUEUES for m in self.client.zrange(f"rq:wip:{queue}", 0, -1)]  # type: ignore[misc]
            jobs = {member.decode().rpartition(":")[0] for member in members}
            holders = {self.client.hget(keys.job(id), "worker_name") for id in jobs}
            return any(name.encode() in holders for name in names)
        return False

    def answers(self) -> bool:
        """True if the server can be talked to."""
        with contextlib.suppress(redis.RedisError):
            return bool(self.client.ping())
        return False

    def wait_whole(self, seconds: float) -> bool:
        """Returns once the web process is ready and every worker alive; False if that takes too long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if len(self.alive()) == len(self.workers) and http_ok(f"{self.url}/readyz"):
                return True
            if any(len(codes) > MOST_DEATHS for codes in self.deaths().values()):
                return False
            time.sleep(0.1)
        return False

    def deaths(self) -> dict[str, list[int]]:
        """Exit codes of those that died without having been killed by us."""
        return {child.name: child.deaths for child in (self.server, self.web, *self.workers) if child.deaths}

    def orphans(self) -> dict[str, int]:
        """How many processes the dead have left behind."""
        return {child.name: len(left) for child in (self.web, *self.workers) if (left := child.orphans())}


@contextmanager
def running(
    folder: Path, workers: int, worker: str = WORKER, web: str = WEB, replicas: int = 0, **env: str
) -> Iterator[Stack]:
    """Starts a stack with its data in `folder`, waits until it is ready, and stops it whatever happens.

    With `replicas` it has a primary, so many replicas, and three sentinels. `env` is for web process and workers.

    Raises SettingsError, with what the processes said, if it does not get ready.
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
    """The embedded server, with the options of `shared.standalone.home.embedded` and nobody else to start it again."""
    options = {
        "port": "0", "unixsocket": str(socket_path), "unixsocketperm": "700", "dir": str(folder), "save": "",
        "appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction", "daemonize": "no",
    }  # fmt: skip
    return [server_binary(), *(text for name, value in options.items() for text in (f"--{name}", value))]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _pid(name: str) -> int:
    """The process of a worker's name, which is host-pid-random."""
    text = name.rsplit("-", 2)[-2] if name.count("-") >= 2 else ""
    return int(text) if text.isdigit() and name.startswith(f"{os.uname().nodename}-") else 0
