"""Tests of guards of single scripts: what is trimmed of RQ's registries, released, evicted, read and counted."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from rq import Queue as RQQueue
from rq.job import Job

from shared import keys
from shared.batches import Batches
from shared.chunks import Chunk
from shared.errors import Lost
from shared.ids import new_id
from shared.operations.leases import _held
from shared.store import Store
from tests.answering import finish


@pytest.fixture
def queue(client: redis.Redis) -> RQQueue:
    return RQQueue("digitq", connection=client, serializer="json")


def trimmed(store: Store) -> Any:
    """Trim the registries of all that is older than a minute."""
    return store.tell("registries", ttl=60, most=100, queues=list(keys.QUEUES))


def age(client: redis.Redis, registry: str) -> None:
    """Make all entries old."""
    client.zadd(registry, dict.fromkeys(client.zrange(registry, 0, -1), 1.0))


def test_a_cancelled_job_with_a_time_to_live_is_left_to_it(store: Store, client: redis.Redis, queue: RQQueue) -> None:
    for_ever, for_a_while = (queue.enqueue("tests.jobs.double", n) for n in range(2))
    for job in (for_ever, for_a_while):
        job.cancel()
    client.persist(for_ever.key)
    client.expire(for_a_while.key, 500)
    age(client, "rq:canceled:digitq")
    assert trimmed(store) == 2
    assert (client.exists(for_ever.key), client.exists(for_a_while.key)) == (0, 1)
    assert client.zcard("rq:canceled:digitq") == 0


def test_a_deferred_job_without_dependencies_is_kept(store: Store, client: redis.Redis, queue: RQQueue) -> None:
    first = queue.enqueue("tests.jobs.double", 1)
    waiting = queue.enqueue("tests.jobs.double", 2, depends_on=first)
    client.delete(waiting.dependencies_key)
    age(client, "rq:deferred:digitq")
    assert trimmed(store) == 0 and client.exists(waiting.key)


def test_a_deferred_job_that_has_gone_on_leaves_its_registry_and_stays(
    store: Store, client: redis.Redis, queue: RQQueue
) -> None:
    first = queue.enqueue("tests.jobs.double", 1)
    waiting = queue.enqueue("tests.jobs.double", 2, depends_on=first)
    client.hset(waiting.key, "status", "queued")
    age(client, "rq:deferred:digitq")
    assert trimmed(store) == 1 and client.exists(waiting.key)


def test_a_claim_whose_job_is_gone_is_not_released(store: Store, client: redis.Redis) -> None:
    id = store.submit(b"7").id
    claims = store.claim("w", keys.QUEUES, 1, "n")
    Job.fetch(id, connection=client, serializer="json").delete()
    assert store.tell("release", _held(claims)) == 0
    assert client.llen(keys.queue("digitq")) == 0 and not client.exists(keys.job(id))


def test_a_chunk_that_has_ended_is_released_without_a_new_start(store: Store, client: redis.Redis) -> None:
    batch = Batches(store).submit([Chunk(1, b"{}")])
    claims = store.claim("w", keys.QUEUES, 1, "n")
    client.hset(keys.results(f"{batch.id}-0"), "state", "finished")
    assert store.tell("release", _held(claims)) == 1
    assert client.hget(keys.results(f"{batch.id}-0"), "state") == b"finished"


def test_without_a_limit_nothing_is_evicted(store: Store, client: redis.Redis) -> None:
    ids = [store.submit(b"7").id for _ in range(3)]
    finish(store)
    assert not int(client.info("memory")["maxmemory"])
    evict = {
        "begin": 0.9,
        "stop": 0.8,
        "fresh": -9,
        "batch_fresh": -9,
        "ttl": 100,
        "most": 10,
        "uncalled": 0,
        "more": 0,
    }
    assert store.tell("evict", **evict) == [0, 0]
    assert all(client.exists(keys.job(id)) for id in ids)


def test_a_deleted_job_is_no_dependent_any_more(store: Store, client: redis.Redis, queue: RQQueue) -> None:
    first = queue.enqueue("tests.jobs.double", 1)
    waiting = queue.enqueue("tests.jobs.double", 2, depends_on=first)
    waiting.cancel()
    client.persist(waiting.key)
    client.sadd(first.dependents_key, waiting.id)
    client.sadd(waiting.dependencies_key, first.id)
    age(client, "rq:canceled:digitq")
    assert trimmed(store) == 1
    assert client.smembers(first.dependents_key) == set() and not client.exists(waiting.dependencies_key)


def test_a_tombstone_of_another_type_is_none(store: Store, client: redis.Redis) -> None:
    id = new_id(now=store.time())
    client.set(f"digitq:gone:{id}", "text")
    with pytest.raises(Lost):
        store.fetch(id)


def test_the_load_says_over_how_many_seconds_it_has_counted(store: Store) -> None:
    now, _, _, seconds, *_ = store.tell("load", queues=list(keys.QUEUES))
    assert float(seconds) == pytest.approx(10 + float(now) % 5)
