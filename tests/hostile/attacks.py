"""What clients do that misbehave: each attack takes a crowd of connections and lasts seconds."""

from __future__ import annotations

import json
import socket
import time
from contextlib import suppress

import redis

from producer import Client
from shared import keys
from tests.pictures import seven
from tests.stack import Stack

#: How long an attack is kept up.
ATTACK_SECONDS = 12.0


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
