"""Runs clients that misbehave, and measures the times of well-behaved clients of the same web process."""

from __future__ import annotations

import http.client
import json
import resource
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

#: Seconds in which one kind of misbehaviour may open its connections.
ATTACK_SECONDS = 12.0
#: Timeout of a well-behaved client, and its pause between two requests, in seconds.
PATIENCE_SECONDS, PAUSE_SECONDS = 5.0, 0.05


class Crowd:
    """Connections to a local web process."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.sockets: list[socket.socket] = []

    def connect(self, small: bool = False) -> socket.socket | None:
        """Open a connection; return None if the server accepts none. `small`: with a small receive buffer."""
        one = socket.socket()
        if small:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.settimeout(1)
        self.sockets.append(one)
        with suppress(OSError):
            one.connect(("127.0.0.1", self.port))
            return one
        return None

    def send(self, count: int, data: bytes, small: bool = False) -> None:
        """Open connections that send only this; stop early if the server accepts no more."""
        end = time.monotonic() + ATTACK_SECONDS
        for _ in range(count):
            if time.monotonic() > end:
                return
            one = self.connect(small)
            if one and data:
                with suppress(OSError):
                    one.sendall(data)

    def trickle(self, seconds: float) -> None:
        """Send a byte on every connection twice a second."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for one in self.sockets:
                with suppress(OSError):
                    one.sendall(b"x")
            time.sleep(0.5)

    def close(self) -> None:
        """Close all connections."""
        for one in self.sockets:
            one.close()
        self.sockets.clear()


def head(method: str, path: str, *lines: str) -> bytes:
    """Return the head of a request."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *lines, "", ""]).encode()


def silent(crowd: Crowd, share: float = 1) -> None:
    """Open 5,000 connections that send nothing."""
    crowd.send(int(5000 * share), b"")


def half_heads(crowd: Crowd, share: float = 1) -> None:
    """Send 1,000 incomplete request heads."""
    crowd.send(int(1000 * share), b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Rest:")


def half_bodies(crowd: Crowd, share: float = 1) -> None:
    """Send half of 1,000 small uploads."""
    size = 200_000
    crowd.send(int(1000 * share), head("POST", "/v1/predictions", f"Content-Length: {size}") + bytes(size // 2))


def slow_bodies(crowd: Crowd, share: float = 1) -> None:
    """Start 150 uploads of 2 MB and as many batches, and send a few bytes of each at a time."""
    for path in ("/v1/predictions", "/v1/batches"):
        crowd.send(int(150 * share), head("POST", path, "Content-Length: 2000000") + bytes(100_000))


@dataclass
class Others:
    """Well-behaved clients, which repeat each kind of request and measure its times in seconds."""

    port: int
    #: The picture that they upload.
    picture: bytes
    seconds: dict[str, list[float]] = field(default_factory=lambda: {"healthz": [], "upload": [], "poll": []})
    #: Failed requests: the kind and the error.
    troubles: list[tuple[str, str]] = field(default_factory=list)
    _id: str = ""

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Run the clients, each kind of request on its own thread."""
        stop = threading.Event()
        kinds: dict[str, Callable[[], None]] = {"healthz": self._look, "upload": self._upload, "poll": self._poll}
        threads = [threading.Thread(target=self._repeat, args=(stop, name, kinds[name])) for name in kinds]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    def _repeat(self, stop: threading.Event, kind: str, ask: Callable[[], None]) -> None:
        while not stop.wait(PAUSE_SECONDS):
            began = time.monotonic()
            try:
                ask()
            except (OSError, http.client.HTTPException) as error:
                self.troubles.append((kind, f"{type(error).__name__} {error}"))
            self.seconds[kind].append(time.monotonic() - began)

    def _look(self) -> None:
        self._ask("GET", "/healthz", None, 200)

    def _upload(self) -> None:
        self._id = json.loads(self._ask("POST", "/v1/predictions", self.picture, 202))["id"]

    def _poll(self) -> None:
        if id := self._id:
            self._ask("GET", f"/v1/predictions/{id}", None, 200)

    def _ask(self, method: str, path: str, body: bytes | None, good: int) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            content = answer.read()
            if answer.status != good:
                raise http.client.HTTPException(answer.status)
            return content
        finally:
            connection.close()

    def percentile(self, percent: int) -> dict[str, float]:
        """Return this percentile of the times of each kind of request."""
        return {
            kind: statistics.quantiles(all_, n=100)[percent - 1] if len(all_) > 1 else float("inf")
            for kind, all_ in self.seconds.items()
        }


@contextmanager
def many_descriptors() -> Iterator[None]:
    """Raise the limit of open files of this process, and of those it starts, as far as possible."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # macOS reports no limit but has one
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
