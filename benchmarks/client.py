"""The load generator, run in its own process for every server: closed or open loop, every response checked.

    python -m benchmarks.client < load.json      (a Load as JSON on stdin; its Result as JSON on stdout)

Closed loop: `clients` connections, each sends its next picture when the last is answered. Open loop: pictures arrive at
`rate` a second whatever the server does (Poisson), over at most MAX_CONNECTIONS connections; a latency counts from when
the picture was meant to be sent, so waiting for a free connection is part of it (no coordinated omission).
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import resource
import selectors
import ssl
import sys
import time
from base64 import b64decode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from benchmarks.http1 import Connection, Reply, request
from benchmarks.tally import Tally

#: Of the open loop.
MAX_CONNECTIONS = 100
#: Connections for which `select` is used; it takes 1,024 descriptors.
SELECTED = 900
#: Seconds to wait for responses after the last arrival; a missing one is an error of at least that latency.
DRAIN_SECONDS = 5.0
#: Pause in seconds between polls (202), and after an error.
AGAIN_SECONDS = 0.02


@dataclass(frozen=True)
class Load:
    """The load to send. `rate` in pictures/s makes it an open loop; the first `warm` of the `seconds` do not count."""

    url: str
    body: str
    digit: int
    seconds: float
    clients: int = 1
    rate: float = 0.0
    warm: float = 0.0
    seed: int = 0
    headers: tuple[str, ...] = ()
    #: Ask for the result every AGAIN_SECONDS, and let no request wait for it.
    polls: bool = False


class Client:
    """Sends one load."""

    def __init__(self, load: Load) -> None:
        self.load = load
        parts = urlsplit(load.url)
        self._address = (parts.hostname or "127.0.0.1", parts.port or (443 if parts.scheme == "https" else 80))
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._host, self._base = parts.netloc, parts.path.rstrip("/")
        headers = ("Content-Type: image/png", *(() if load.polls else ("Prefer: wait=20",)), *load.headers)
        self._post = request("POST", self._host, f"{self._base}/v1/predictions", b64decode(load.body), headers)
        self._idle: list[Connection] = []
        self._free = asyncio.Semaphore(MAX_CONNECTIONS if load.rate else load.clients)

    async def run(self) -> dict[str, Any]:
        start = asyncio.get_running_loop().time() + 0.02
        self.tally = Tally(start + self.load.warm, start + self.load.seconds)
        cpu = time.process_time()
        await (self._open(start) if self.load.rate else self._closed())
        return {**self.tally.result(), "client_cpu_s": time.process_time() - cpu}

    async def _closed(self) -> None:
        async def one_after_the_other() -> None:
            while (now := clock()) < self.tally.end:
                if not await self._one(now):
                    await asyncio.sleep(AGAIN_SECONDS)

        clock = asyncio.get_running_loop().time
        await self._drained([asyncio.create_task(one_after_the_other()) for _ in range(self.load.clients)])

    async def _open(self, start: float) -> None:
        clock, tasks = asyncio.get_running_loop().time, []
        for intended in arrivals(start, self.tally.end, self.load.rate, self.load.seed):
            if (ahead := intended - clock()) > 0:
                await asyncio.sleep(ahead)
            tasks.append(asyncio.create_task(self._one(intended)))
        await self._drained(tasks)

    async def _drained(self, tasks: Sequence[asyncio.Task[Any]]) -> None:
        left = self.tally.end - asyncio.get_running_loop().time() + DRAIN_SECONDS
        _, pending = await asyncio.wait(tasks, timeout=max(0.1, left)) if tasks else (set(), set())
        for task in pending:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for connection in self._idle:
            connection.close()

    async def _one(self, intended: float) -> bool:
        """Send a picture once a connection is free; if it times out, it counts with its age."""
        try:
            async with self._free:
                return await self._picture(intended)
        except asyncio.CancelledError:
            self.tally.unanswered(asyncio.get_running_loop().time() - intended)
            raise

    async def _picture(self, intended: float) -> bool:
        """Send a picture and check its digit; count failures by kind and return False."""
        connection, path = None, ""
        try:
            connection = self._idle.pop() if self._idle else await self._connect()
            reply = await connection.ask(self._post)
            while reply.status == 202 or (path and json.loads(reply.body).get("state") in ("queued", "running")):
                await asyncio.sleep(AGAIN_SECONDS)
                path = path or f"{self._base}{reply.location}{'' if self.load.polls else '?wait=20'}"
                reply = await connection.ask(request("GET", self._host, path, headers=self.load.headers))
            return self._check(reply, intended)
        except (OSError, ValueError) as error:
            self.tally.errors[type(error).__name__] += 1
            if connection:
                connection.close()
                connection = None
            return False
        finally:
            if connection:
                self._idle.append(connection)

    def _check(self, reply: Reply, intended: float) -> bool:
        now = asyncio.get_running_loop().time()
        answer = json.loads(reply.body) if reply.status == 200 else {}
        if answer.get("digit") != self.load.digit:
            self.tally.errors["wrong digit" if answer else f"status {reply.status}"] += 1
            return False
        self.tally.right(intended, now, (answer.get("batch") or {}).get("size") or 1)
        return True

    async def _connect(self) -> Connection:
        _, connection = await asyncio.get_running_loop().create_connection(Connection, *self._address, ssl=self._tls)
        return connection


def arrivals(start: float, end: float, rate: float, seed: int) -> Iterator[float]:
    """Return Poisson arrivals, `rate` a second, from `start` to `end`; the same for equal seeds."""
    chance = random.Random(seed)
    at = start + chance.expovariate(rate)
    while at < end:
        yield at
        at += chance.expovariate(rate)


def run(load: Load) -> dict[str, Any]:
    """Send the load in this process.

    Uses `select`, whose timeouts are exact to the microsecond, unlike epoll's, while it has descriptors enough.
    """
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    few = load.clients <= SELECTED
    loop = asyncio.SelectorEventLoop(selectors.SelectSelector() if few else selectors.DefaultSelector())
    try:
        return loop.run_until_complete(Client(load).run())
    finally:
        loop.close()


if __name__ == "__main__":
    gc.disable()
    words = json.load(sys.stdin)
    print(json.dumps(run(Load(**{**words, "headers": tuple(words.get("headers", ()))}))))
