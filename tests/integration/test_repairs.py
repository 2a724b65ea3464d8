"""Repairs without a right, and what they cost."""

from __future__ import annotations

from dataclasses import replace

import pytest
import redis
from rq.job import Job

from shared import keys
from shared.errors import RedisUnavailable
from shared.prediction import State
from shared.settings import Settings
from shared.store import Store, connect
from tests.repairing import burst, deep, expire_leases, rq_queue, serving


def test_a_worker_without_a_right_loses_nothing_and_costs_no_attempt(
    store: Store, client: redis.Redis, settings: Settings
) -> None:
    once = Store(client, replace(settings, max_attempts=1))
    ids = [once.submit(b"7").id for _ in range(3)]
    job = rq_queue(client).enqueue(keys.JOB_FUNCTION, once.submit(b"7").id)
    for missing in ("hset", "ltrim", "zadd"):
        rights = ["+@all", f"-{missing}"]
        client.acl_setuser("poor", enabled=True, nopass=True, keys=["*"], channels=["*"], commands=rights)
        poor = connect(settings.redis_url.replace("unix://", "unix://poor:x@"))
        with pytest.raises(RedisUnavailable):
            Store(poor, once.settings).claim("w", keys.QUEUES, 64, missing)
        poor.close()
        expire_leases(client)
        with serving(once) as worker:
            worker.recovery.recover_leases()
    client.acl_deluser("poor")
    burst(once)
    assert [(one.digit, one.attempt) for one in map(once.fetch, ids)] == [(7, 1)] * 3
    assert job.get_status() == "finished"


def test_looking_after_what_is_open_costs_the_same_however_much_has_ended(store: Store, client: redis.Redis) -> None:
    def cost() -> int:
        client.config_resetstat()
        store.sweep(0)
        return sum(stat["calls"] for name, stat in client.info("commandstats").items() if "config" not in name)  # type: ignore[union-attr]

    store.sweep(0)
    before = cost()
    for _ in range(200):
        store.submit(b"7")
    burst(store)
    assert cost() == before
    for _ in range(300):
        store.submit(b"7")
    assert [store.sweep(0)[0] for _ in range(3)] == [100] * 3
    assert store.sweep(30) == (0, 0)  # all were looked at just now


def test_taking_back_from_a_long_queue_does_not_search_it(store: Store, client: redis.Redis) -> None:
    id = deep(store, client)
    last = store.submit(b"2").id
    before = store.load().queued
    client.config_resetstat()
    store.cancel(id)
    store.cancel(last)  # near the end: found from there
    assert client.info("commandstats")["cmdstat_lrem"]["calls"] == 1
    assert store.load().queued == before - 2
    assert store.fetch(id).state is State.CANCELLED
    assert Job.fetch(id, connection=client, serializer="json").is_canceled
    assert rq_queue(client).canceled_job_registry.get_job_ids() == [id, last]


def test_a_picture_that_is_put_back_has_neither_its_last_end_nor_ever_more_results(
    store: Store, client: redis.Redis
) -> None:
    id = store.submit(b"7").id
    for _ in range(30):
        burst(store)
        client.hset(keys.job(id), "status", "queued")
        client.rpush("rq:queue:digitq", id)
    assert store.claim("w", keys.QUEUES, 1, "n")
    assert store.model_input(id) is None and not client.hexists(keys.job(id), "digitq_found")
    assert int(client.xlen(f"rq:results:{id}")) < 20
