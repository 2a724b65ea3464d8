"""Misbehaving clients: each attack uses a crowd of connections and lasts seconds."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import redis

from producer import Client
from shared import keys
from tests.pictures import seven
from tests.stack import Stack
from verify.crowd import ATTACK_SECONDS, Crowd, half_bodies, half_heads, head, silent, slow_bodies


class HostileCrowd(Crowd):
    """The connections of one attack on a stack."""

    def __init__(self, stack: Stack) -> None:
        super().__init__(int(stack.url.rpartition(":")[2]))
        self.stack = stack


def trickling_bodies(crowd: HostileCrowd, share: float) -> None:
    slow_bodies(crowd, share)
    crowd.trickle(ATTACK_SECONDS / 2)


trickling_bodies.__doc__ = slow_bodies.__doc__


def unread_events(crowd: HostileCrowd, share: float) -> None:
    """200 listeners that read nothing, while 3,000 predictions end each second."""
    crowd.send(int(200 * share), head("GET", "/v1/events"), small=True)
    with redis.Redis.from_url(crowd.stack.redis_url) as client:
        told = client.pubsub()
        told.subscribe(keys.EVENTS)
        with Client(crowd.stack.url) as sdk:
            sdk.submit(seven()).wait(10)
        news = next(json.loads(one["data"]) for one in told.listen() if one["type"] == "message")
        [ended, *_] = news["ended"]
        told.close()
        end, number = time.monotonic() + ATTACK_SECONDS, 0
        while time.monotonic() < end:
            flood = [{**ended, "id": f"flood-{number + n}"} for n in range(60)]
            client.publish(keys.EVENTS, json.dumps({**news, "ended": flood}))
            number += 60
            time.sleep(0.02)


def unread_results(crowd: HostileCrowd, share: float) -> None:
    """60 downloads of the results of 20,000 pictures that nobody reads."""
    with Client(crowd.stack.url) as sdk:
        batch = sdk.submit_batch(idx(20_000)).wait(60)
    crowd.send(int(60 * share), head("GET", f"/v1/batches/{batch.id}/results"), small=True)
    time.sleep(ATTACK_SECONDS / 2)


def unread_pictures(crowd: HostileCrowd, share: float) -> None:
    """100 downloads of a picture of 8 MB that nobody reads."""
    with Client(crowd.stack.url) as sdk:
        id = sdk.submit(seven() + bytes(8_000_000)).id
    crowd.send(int(100 * share), head("GET", f"/v1/predictions/{id}/image"), small=True)
    time.sleep(ATTACK_SECONDS / 2)


def idx(count: int) -> bytes:
    """White pictures as one IDX file."""
    return b"\0\0\x08\x03" + b"".join(number.to_bytes(4, "big") for number in (count, 28, 28)) + bytes(784 * count)


def abandoned(crowd: HostileCrowd, share: float) -> None:
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


ATTACKS: dict[str, Callable[[HostileCrowd, float], None]] = {
    "silent": silent,
    "half_heads": half_heads,
    "half_bodies": half_bodies,
    "slow_bodies": trickling_bodies,
    "unread_events": unread_events,
    "unread_results": unread_results,
    "unread_pictures": unread_pictures,
    "abandoned": abandoned,
}
