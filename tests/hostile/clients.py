"""Clients that misbehave, against a stack of this machine: others must be answered meanwhile, and nothing may grow.

python -m tests.hostile.clients [SHARE [ATTACK…]]     or: make hostile-clients

SHARE of the full counts (1: all of them). Each attack lasts seconds; all of them take some five minutes.
"""

from __future__ import annotations

import http.client
import json
import re
import resource
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import redis

from producer import Client
from shared import keys
from tests.hostile.run import memory_mb
from tests.pictures import seven
from tests.stack import Stack, up

#: What others may have to wait, in seconds (the 99th percentile); by how many MB the web process may grow.
MOST_SECONDS, MOST_GROWTH_MB = 1.0, 100
#: How long an attack is kept up, and how long until all its descriptors are back.
ATTACK_SECONDS, RETURN_SECONDS = 12.0, 45.0
PATIENCE_SECONDS = 5.0


@dataclass
class Others:
    """Whoever uses the server meanwhile: every answer's time, and what went wrong."""

    port: int
    seconds: dict[str, list[float]] = field(default_factory=lambda: {"healthz": [], "upload": []})
    troubles: list[str] = field(default_factory=list)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        stop = threading.Event()
        ways: dict[str, Callable[[], None]] = {"healthz": self._look, "upload": self._upload}
        threads = [threading.Thread(target=self._repeat, args=(stop, name, ways[name])) for name in ways]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    def _repeat(self, stop: threading.Event, name: str, ask: Callable[[], None]) -> None:
        while not stop.wait(0.05):
            began = time.monotonic()
            try:
                ask()
            except (OSError, http.client.HTTPException, AssertionError) as error:
                self.troubles.append(f"{name}: {type(error).__name__} {error}")
            self.seconds[name].append(time.monotonic() - began)

    def _look(self) -> None:
        self._ask("GET", "/healthz", None, (200,))

    def _upload(self) -> None:
        self._ask("POST", "/v1/predictions", seven(), (202,))

    def _ask(self, method: str, path: str, body: bytes | None, good: tuple[int, ...]) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            answer.read()
            assert answer.status in good, answer.status
        finally:
            connection.close()

    def worst(self) -> dict[str, float]:
        """The 99th percentile of each."""
        return {
            name: statistics.quantiles(all_, n=100)[98] if len(all_) > 1 else float("inf")
            for name, all_ in self.seconds.items()
        }


def descriptors(pids: list[int]) -> int:
    """Open ones of the processes, without those to Redis, which are kept for the next call."""
    local = {line.split()[6] for line in Path("/proc/net/unix").read_text().splitlines()[1:]}
    found = 0
    for path in (path for pid in pids for path in Path(f"/proc/{pid}/fd").iterdir()):
        with suppress(OSError):
            found += re.sub(r"\D", "", str(path.readlink())) not in local
    return found


class Crowd:
    """The sockets of one attack."""

    def __init__(self, stack: Stack) -> None:
        self.stack, self.port = stack, int(stack.url.rpartition(":")[2])
        self.sockets: list[socket.socket] = []

    def connect(self, small: bool = False) -> socket.socket | None:
        """One more connection; None where the server takes none."""
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
        """Connections that say this and no more; a server that takes no more of them ends this early."""
        end = time.monotonic() + ATTACK_SECONDS
        for _ in range(count):
            if time.monotonic() > end:
                return
            one = self.connect(small)
            if one and data:
                with suppress(OSError):
                    one.sendall(data)

    def close(self) -> None:
        for one in self.sockets:
            one.close()
        self.sockets.clear()


def head(method: str, path: str, *lines: str) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *lines, "", ""]).encode()


def silent(crowd: Crowd, share: float) -> None:
    """5,000 connections that say nothing."""
    crowd.send(int(5000 * share), b"")


def half_heads(crowd: Crowd, share: float) -> None:
    """1,000 heads without their end."""
    crowd.send(int(1000 * share), b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Rest:")


def half_bodies(crowd: Crowd, share: float) -> None:
    """1,000 small uploads, half sent."""
    size = 200_000
    crowd.send(int(1000 * share), head("POST", "/v1/predictions", f"Content-Length: {size}") + bytes(size // 2))


def slow_bodies(crowd: Crowd, share: float) -> None:
    """150 uploads of 2 MB, and as many batches, of which a few bytes trickle in."""
    for path in ("/v1/predictions", "/v1/batches"):
        crowd.send(int(150 * share), head("POST", path, "Content-Length: 2000000") + bytes(100_000))
    end = time.monotonic() + ATTACK_SECONDS / 2
    while time.monotonic() < end:
        for one in crowd.sockets:
            with suppress(OSError):
                one.sendall(b"x")
        time.sleep(0.5)


def unread_events(crowd: Crowd, share: float) -> None:
    """200 listeners that read nothing, while 3,000 predictions end each second."""
    crowd.send(int(200 * share), head("GET", "/v1/events"), small=True)
    with redis.Redis.from_url(crowd.stack.redis_url) as client:
        told = client.pubsub()
        told.subscribe(keys.EVENTS)
        with Client(crowd.stack.url) as sdk:
            sdk.submit(seven()).wait(10)
        [[_, *fields], *_] = next(json.loads(one["data"]) for one in told.listen() if one["type"] == "message")
        told.close()
        end, number = time.monotonic() + ATTACK_SECONDS, 0
        while time.monotonic() < end:
            client.publish(keys.EVENTS, json.dumps([[f"flood-{number + n}", *fields] for n in range(60)]))
            number += 60
            time.sleep(0.02)


def unread_results(crowd: Crowd, share: float) -> None:
    """60 downloads of the results of 20,000 pictures that nobody reads."""
    with Client(crowd.stack.url) as sdk:
        batch = sdk.submit_batch(idx(20_000)).wait(60)
    crowd.send(int(60 * share), head("GET", f"/v1/batches/{batch.id}/results"), small=True)
    time.sleep(ATTACK_SECONDS / 2)


def unread_pictures(crowd: Crowd, share: float) -> None:
    """100 downloads of a picture of 8 MB that nobody reads."""
    with Client(crowd.stack.url) as sdk:
        id = sdk.submit(seven() + bytes(8_000_000)).id
    crowd.send(int(100 * share), head("GET", f"/v1/predictions/{id}/image"), small=True)
    time.sleep(ATTACK_SECONDS / 2)


def idx(count: int) -> bytes:
    """So many white pictures as one IDX file."""
    return b"\0\0\x08\x03" + b"".join(number.to_bytes(4, "big") for number in (count, 28, 28)) + bytes(784 * count)


def abandoned(crowd: Crowd, share: float) -> None:
    """3,000 long polls of a picture that never ends, each closed at once; then as many uploads by form that wait."""
    with Client(crowd.stack.url) as sdk, redis.Redis.from_url(crowd.stack.redis_url) as client:
        client.set("rq:suspended", 1)
        usual = rate(client)
        try:
            id = sdk.submit(seven()).id
            form = (
                b'--x\r\nContent-Disposition: form-data; name="file"; filename="7.png"\r\n\r\n'
                + seven()
                + b"\r\n--x--\r\n"
            )
            kind = "Content-Type: multipart/form-data; boundary=x"
            upload = head("POST", "/v1/predictions", kind, f"Content-Length: {len(form)}", "Prefer: wait=30") + form
            for number in range(int(3000 * share)):
                crowd.send(1, head("GET", f"/v1/predictions/{id}?wait=30") if number % 10 else upload)
                if number % 50 == 49:
                    time.sleep(0.1)
                    crowd.close()
            crowd.close()
            time.sleep(2)
            print(f"  commands/s of Redis: {usual:.0f} before, {rate(client):.0f} once all have gone")
        finally:
            client.delete("rq:suspended")


def rate(client: redis.Redis) -> float:
    """Commands a second, measured for two."""
    counts = []
    for _ in range(2):
        counts.append(sum(one["calls"] for one in client.info("commandstats").values()))
        time.sleep(2)
    return (counts[1] - counts[0]) / 2


ATTACKS = {
    each.__name__: each
    for each in (
        silent,
        half_heads,
        half_bodies,
        slow_bodies,
        unread_events,
        unread_results,
        unread_pictures,
        abandoned,
    )
}


def attacked(stack: Stack, name: str, share: float) -> list[str]:
    """One attack; what should not be."""
    port, pids = int(stack.url.rpartition(":")[2]), stack.pids("digitq web")
    others, crowd = Others(port), Crowd(stack)
    idle, open_before, most = sum(map(memory_mb, pids)), descriptors(pids), 0
    open_most = open_before
    began = time.monotonic()
    with others.at_work():
        worker = threading.Thread(target=ATTACKS[name], args=(crowd, share))
        worker.start()
        while worker.is_alive() or time.monotonic() - began < ATTACK_SECONDS:
            most, open_most = max(most, sum(map(memory_mb, pids))), max(open_most, descriptors(pids))
            time.sleep(0.2)
        crowd.close()
    end = time.monotonic() + RETURN_SECONDS
    while (left := descriptors(pids)) > open_before + 20 and time.monotonic() < end:
        time.sleep(0.2)
    worst, back = others.worst(), time.monotonic() - end + RETURN_SECONDS
    print(f"{name}: {(ATTACKS[name].__doc__ or '').splitlines()[0]}")
    for what, seconds in others.seconds.items():
        print(f"  {what}: {len(seconds)} asked, p99 {worst[what] * 1000:.0f} ms, worst {max(seconds) * 1000:.0f} ms")
    print(f"  {len(others.troubles)} unanswered {sorted(set(others.troubles))[:3]}")
    print(
        f"  memory {idle} -> {most} MB; descriptors {open_before} -> {open_most}, {left} after {back:.1f} s", flush=True
    )
    bad = [f"{what} took {seconds:.1f} s" for what, seconds in worst.items() if seconds > MOST_SECONDS]
    bad += [f"{len(others.troubles)} unanswered"] if others.troubles else []
    bad += [f"grown by {most - idle} MB"] if most > idle + MOST_GROWTH_MB else []
    bad += [f"{left - open_before} descriptors are left"] if left > open_before + 20 else []
    return [f"{name}: {one}" for one in bad]


def main(share: float = 1.0, *names: str) -> int:
    """Prints figures for each attack; 1 if others had to wait or something has grown."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    bad: list[str] = []
    with ExitStack() as open_:
        folder = open_.enter_context(tempfile.TemporaryDirectory(prefix="digitq-"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))  # the server raises its own
        stack = open_.enter_context(up(Path(folder), workers=1))
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        with Client(stack.url) as sdk:
            for _ in range(20):
                sdk.submit(seven()).wait(10)
        for name in names or ATTACKS:
            bad += attacked(stack, name, share)
    print(*bad, sep="\n")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 1.0, *sys.argv[2:]))
