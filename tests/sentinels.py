"""A primary, two replicas, and three sentinels that watch them: what a Redis that must not go away is made of."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import redis
from redis.sentinel import Sentinel

from shared.home import server_binary

SERVICE = "digitq"


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(probe.getsockname()[1]) for probe in probes]


class Server:
    """A server with a log, so that it has everything again when it is started again."""

    def __init__(self, folder: Path, port: int, *options: str) -> None:
        folder.mkdir()
        self.port, self._folder, self._options = port, folder, options
        self.client = redis.Redis(port=port)
        self.start()

    def start(self, *options: str) -> None:
        words = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder), "--save", "",
                 "--appendonly", "yes", "--repl-diskless-sync-delay", "0", *self._options, *options]  # fmt: skip
        with (self._folder / "log").open("ab") as log:
            self.process = subprocess.Popen([server_binary(), *words], stdout=log)
        wait_until(lambda: bool(self.client.ping()))

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        self.kill()
        self.client.close()


class Sentinels:
    """All of them."""

    def __init__(self, folder: Path) -> None:
        first, second, third, *ports = free_ports(6)
        self.url = f"redis+sentinel://{','.join(f'127.0.0.1:{port}' for port in ports)}/{SERVICE}"
        self.primary = Server(folder / "0", first)
        self.replicas = [
            Server(folder / f"{port}", port, "--replicaof", "127.0.0.1", f"{first}") for port in (second, third)
        ]
        wait_until(lambda: followed(self.primary, 2))
        self._processes = [self._watch(folder / f"{port}.conf", port) for port in ports]
        self._asked = Sentinel([("127.0.0.1", port) for port in ports], socket_timeout=1)
        wait_until(lambda: all(self._sees_all(port) for port in ports), 20)

    def _watch(self, conf: Path, port: int) -> subprocess.Popen[bytes]:
        conf.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {conf.parent}\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {self.primary.port} 2\n"
            f"sentinel down-after-milliseconds {SERVICE} 1000\nsentinel failover-timeout {SERVICE} 5000\n"
        )
        return subprocess.Popen([server_binary(), str(conf), "--sentinel"], stdout=subprocess.DEVNULL)

    def _sees_all(self, port: int) -> bool:
        with redis.Redis(port=port) as client:
            seen = client.sentinel_master(SERVICE)
            return bool((seen["num-other-sentinels"], seen["num-slaves"]) == (2, 2))

    def leader(self) -> int:
        """The port of the primary, as the sentinels have it."""
        return int(self._asked.discover_master(SERVICE)[1])

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        for server in (self.primary, *self.replicas):
            server.close()
        self._asked.close()


def followed(primary: Server, replicas: int) -> bool:
    """So many replicas have what is written now."""
    with primary.client.pipeline(transaction=False) as pipeline:
        return bool(pipeline.set("x", 1).wait(replicas, 100).execute()[1] == replicas)


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> float:
    """How long it took until the condition held: what raises redis-py's errors does not hold."""
    start = time.monotonic()
    while time.monotonic() - start < seconds:
        with suppress(redis.RedisError, KeyError):
            if condition():
                return time.monotonic() - start
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s")


@contextmanager
def sentinels(folder: Path) -> Iterator[Sentinels]:
    all = Sentinels(folder)
    try:
        yield all
    finally:
        all.close()
