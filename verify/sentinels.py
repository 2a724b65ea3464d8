"""Runs a primary, its replicas and three sentinels: a highly available Redis."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import redis
from redis.sentinel import Sentinel

from shared.standalone.embedded_server import server_binary

SERVICE = "digitq"
#: Seconds in which the sentinels must find each other and all servers.
SEEN_SECONDS = 60.0


def free_ports(count: int) -> list[int]:
    """Return free ports of this machine."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(probe.getsockname()[1]) for probe in probes]


class Server:
    """A server with an append-only file, so that it keeps its data over a restart."""

    def __init__(self, folder: Path, port: int, *options: str) -> None:
        folder.mkdir()
        self.port, self._folder, self._options = port, folder, options
        self.client = redis.Redis(port=port)
        self.start()

    def start(self, *options: str) -> None:
        """Start it; return when it answers."""
        words = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder), "--save", "",
                 "--appendonly", "yes", "--repl-diskless-sync-delay", "0", *self._options, *options]  # fmt: skip
        with (self._folder / "log").open("ab") as log:
            self.process = subprocess.Popen([server_binary(), *words], stdout=log)
        try:
            wait_until(lambda: bool(self.client.ping()))
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """Stop it."""
        self.kill()
        self.client.close()


class Sentinels:
    """The servers and sentinels; `failover` and `kill` change the primary."""

    def __init__(self, folder: Path, replicas: int = 2) -> None:
        self._running = ExitStack()
        try:
            self._start(folder, replicas)
        except BaseException:
            self.close()
            raise

    def _start(self, folder: Path, replicas: int) -> None:
        first, *ports = free_ports(replicas + 4)
        self.ports = ports[replicas:]
        self.url = f"redis+sentinel://{','.join(f'127.0.0.1:{port}' for port in self.ports)}/{SERVICE}"
        self.primary = self._server(folder / "0", first)
        self.replicas = [
            self._server(folder / f"{port}", port, "--replicaof", "127.0.0.1", f"{first}") for port in ports[:replicas]
        ]
        wait_until(lambda: followed(self.primary, replicas))
        self._processes = [self._watch(folder / f"{port}.conf", port) for port in self.ports]
        self._asked = Sentinel([("127.0.0.1", port) for port in self.ports], socket_timeout=1)  # type: ignore[no-untyped-call]
        self._running.callback(self._asked.close)
        wait_until(lambda: all(self._sees_all(port) for port in self.ports), SEEN_SECONDS)

    def _server(self, folder: Path, port: int, *options: str) -> Server:
        server = Server(folder, port, *options)
        self._running.callback(server.close)
        return server

    def _watch(self, conf: Path, port: int) -> subprocess.Popen[bytes]:
        conf.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {conf.parent}\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {self.primary.port} 2\n"
            f"sentinel down-after-milliseconds {SERVICE} 1000\nsentinel failover-timeout {SERVICE} 5000\n"
        )
        process = subprocess.Popen([server_binary(), str(conf), "--sentinel"], stdout=subprocess.DEVNULL)
        self._running.callback(process.wait)
        self._running.callback(process.kill)
        return process

    def _sees_all(self, port: int) -> bool:
        with redis.Redis(port=port) as client:
            seen = client.sentinel_master(SERVICE)
            return bool((seen["num-other-sentinels"], seen["num-slaves"]) == (2, len(self.replicas)))

    @property
    def servers(self) -> list[Server]:
        """The first primary, and its replicas."""
        return [self.primary, *self.replicas]

    def leader(self) -> int:
        """The port of the primary, according to the sentinels."""
        return int(self._asked.discover_master(SERVICE)[1])  # type: ignore[no-untyped-call]

    def leading(self) -> Server:
        """The primary, according to the sentinels."""
        [server] = [server for server in self.servers if server.port == self.leader()]
        return server

    def failover(self, *words: str) -> float:
        """Promote a replica while the primary lives. Returns the seconds until all sentinels agree.

        `COORDINATED` lets the primary itself hand over, if the server supports that (Valkey 9.0 and later).
        """
        old = self.leader()
        return wait_until(lambda: self._agree_on_another(old) or self._order(old, *words), 60)

    def _order(self, old: int, *words: str) -> bool:
        """Request a failover, again if one failed: a sentinel on a busy machine gives up. Returns False."""
        with redis.Redis(port=self.ports[0]) as client:
            service = client.sentinel_master(SERVICE)
            if int(service["port"]) == old and "failover_in_progress" not in service["flags"]:
                client.execute_command("SENTINEL FAILOVER", SERVICE, *words)
        return False

    def kill(self) -> tuple[Server, float]:
        """Kill the primary. Returns it, and the seconds until all sentinels agree on another."""
        server = self.leading()
        server.kill()
        return server, wait_until(lambda: self._agree_on_another(server.port), 60)

    def _agree_on_another(self, old: int) -> bool:
        leaders = set()
        for port in self.ports:
            with redis.Redis(port=port) as client:
                leaders.add(int(client.sentinel_master(SERVICE)["port"]))
        return len(leaders) == 1 and old not in leaders

    def whole(self) -> bool:
        """Tell whether every server follows the primary and is in sync, and no failover is running."""
        return followed(self.leading(), len(self.replicas)) and not any(self._moves(port) for port in self.ports)

    def _moves(self, port: int) -> bool:
        with redis.Redis(port=port) as client:
            return "failover_in_progress" in client.sentinel_master(SERVICE)["flags"]

    def close(self) -> None:
        """Stop all servers and sentinels."""
        self._running.close()


def followed(primary: Server, replicas: int) -> bool:
    """Tell whether this many replicas have the present writes."""
    with primary.client.pipeline(transaction=False) as pipeline:
        pipeline.set("x", 1, ex=60)
        pipeline.wait(replicas, 100)
        return bool(pipeline.execute()[1] == replicas)


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> float:
    """Wait until the condition holds; return the seconds. Errors of redis-py mean that it does not hold yet."""
    start = time.monotonic()
    while time.monotonic() - start < seconds:
        with suppress(redis.RedisError, KeyError):
            if condition():
                return time.monotonic() - start
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s")


@contextmanager
def sentinels(folder: Path, replicas: int = 2) -> Iterator[Sentinels]:
    """Start all in the folder, and stop them at the end."""
    all = Sentinels(folder, replicas)
    try:
        yield all
    finally:
        all.close()
