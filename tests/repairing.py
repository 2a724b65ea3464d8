"""Puts what a repair has to find into Redis, and runs a worker over it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import redis
from rq import Queue as RQQueue

from shared.store import Store
from tests import fakes
from worker.queue.batch_worker import BatchWorker


@contextmanager
def serving(store: Store, allowed: Sequence[str] = ()) -> Iterator[BatchWorker]:
    worker = BatchWorker(store, fakes.classify, card={"version": "m"}, allowed=allowed)
    yield worker
    worker.wakeup.close()


def burst(store: Store) -> None:
    with serving(store) as worker:
        worker.work(burst=True)


def rq_queue(client: redis.Redis) -> RQQueue:
    return RQQueue("digitq", connection=client, serializer="json")


def expire_leases(client: redis.Redis) -> None:
    for key in client.scan_iter("rq:wip:*"):
        client.zadd(key, dict.fromkeys(client.zrange(key, 0, -1), 1))


def deep(store: Store, client: redis.Redis) -> str:
    """A picture in the middle of a long queue."""
    others = [store.submit(b"1").id for _ in range(3)]
    client.rpush("rq:queue:digitq", *(f"front-{n}" for n in range(1500)))
    id = store.submit(b"7").id
    client.rpush("rq:queue:digitq", *(f"back-{n}" for n in range(1500)))
    assert len(others) == 3
    return id
