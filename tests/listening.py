"""Listeners for the ends of predictions and batches: a subscriber in Redis, and a client of the event stream."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import redis
from werkzeug.test import TestResponse

from shared import keys
from shared.record import ends
from shared.store import Store
from tests.served import WebClient


class Listener:
    """A stream, read on a thread of its own."""

    def __init__(self, web: WebClient, after: str = "") -> None:
        self.response: TestResponse = web.get("/v1/events", headers={"Last-Event-ID": after} if after else {})
        self.text = ""
        self.ended = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for chunk in self.response.response:
            self.text += chunk.decode() if isinstance(chunk, bytes) else chunk
        self.ended.set()

    def events(self, kind: str) -> list[dict[str, str]]:
        found = []
        for block in self.text.split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
            if fields.get("event") == kind:
                found.append(fields)
        return found

    def wait_for(self, kind: str, count: int = 1, seconds: float = 5) -> list[dict[str, Any]]:
        end = time.monotonic() + seconds
        while len(found := self.events(kind)) < count:
            assert time.monotonic() < end, f"{kind}: {found}"
            time.sleep(0.01)
        return [json.loads(fields["data"]) for fields in found]


def listening(web: WebClient, after: str = "") -> Listener:
    """One that certainly hears: the subscription is there."""
    listener = Listener(web, after)
    listener.wait_for("status")
    store: Store = web.services.store
    end = time.monotonic() + 5
    while store.client.pubsub_numsub(keys.EVENTS)[0][1] < 1:
        assert time.monotonic() < end
        time.sleep(0.01)
    return listener


@contextmanager
def hearing(client: redis.Redis) -> Iterator[Callable[[], list[dict[str, str]]]]:
    """Subscribe in Redis; yield a function that returns the records that have ended since its last call."""
    with client.pubsub() as channel:
        channel.subscribe(keys.EVENTS)
        assert channel.get_message(timeout=5)  # that it has subscribed

        def heard() -> list[dict[str, str]]:
            client.publish(keys.EVENTS, b"")  # all before it has been heard once this is
            messages: list[bytes] = []
            end = time.monotonic() + 5
            while not messages or messages[-1]:
                assert time.monotonic() < end
                if message := channel.get_message(timeout=1):
                    messages.append(message["data"])
            return [record for message in messages[:-1] for record in ends(message)]

        yield heard
