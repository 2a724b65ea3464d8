"""Redis comes back without its data: waiting and later requests learn of the loss."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from producer import NEVER, Client, Queue
from shared.errors import Lost
from shared.store import Store
from tests.pictures import seven
from tests.waits import until
from tests.web import web


def test_every_request_waiting_for_a_lost_picture_learns_of_it(
    store: Store, client: redis.Redis, redis_url: str
) -> None:
    with web(store) as site, Client(site.url, retry=NEVER) as http, Queue(redis_url) as queue:
        one, other, batch = http.submit(seven()), queue.submit(seven()), http.submit_batch([b"7"])
        waits: list[Callable[[], object]] = [
            lambda: http.get(one.id, wait=30),
            lambda: one.wait(timeout=30),
            lambda: queue.get(other.id, wait=30),
            lambda: batch.wait(timeout=30),
        ]
        with ThreadPoolExecutor(len(waits)) as pool:
            waiting = [pool.submit(wait) for wait in waits]
            until(lambda: len(client.client_list(_type="pubsub")) >= 2, 30)  # both listen
            client.flushall()
            client.client_kill_filter(_type="pubsub")  # as a server that dies does
            began = time.monotonic()
            for one_waits in waiting:
                with pytest.raises(Lost):
                    one_waits.result(20)
            assert time.monotonic() - began < 10
        for id in (one.id, other.id):
            with pytest.raises(Lost):
                http.get(id)
        with pytest.raises(Lost):
            http.get_batch(batch.id)
