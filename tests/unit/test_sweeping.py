"""Tests of the sweep, which needs no polling client: lost jobs go back, RQ's ends are announced, counts are reset."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import redis
from rq.job import Job

from shared import keys
from shared.batches import Batches
from shared.chunks import Item, packed, raw
from shared.operations import maintenance
from shared.prediction import Prediction, State
from shared.store import Store
from shared.submission import Caller
from tests.answering import finish
from tests.listening import hearing
from tests.repairing import rq_queue

TTL = 600
QUEUE, WIP = "rq:queue:digitq", "rq:wip:digitq"


@pytest.fixture
def short(store: Store) -> Store:
    """With a time to live that no other number looks like."""
    return Store(store.client, replace(store.settings, result_ttl_seconds=TTL))


def near(seconds: float) -> Any:
    return pytest.approx(seconds, abs=2)


def waits(client: redis.Redis, id: str) -> bool:
    return client.lpos(QUEUE, id) is not None


# ---------------------------------------------------------------------- who is looked at


def test_the_longest_unseen_are_looked_at_first_and_a_bounded_number(
    store: Store, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "LOOKED_AT_ONCE", 2)
    ids = [store.submit(b"7").id for _ in range(4)]
    client.zadd(keys.OPEN, {id: at for at, id in enumerate(reversed(ids))})
    assert store.sweep(0) == (2, 0)
    now = store.time()
    assert [client.zscore(keys.OPEN, id) for id in ids] == [3, 2, near(now), near(now)]


def test_a_recently_checked_picture_is_left(store: Store, client: redis.Redis) -> None:
    young, old = store.submit(b"7").id, store.submit(b"7").id
    client.zadd(keys.OPEN, {young: store.time() - 5, old: store.time() - 15})
    assert store.sweep(10) == (1, 0)
    assert client.zscore(keys.OPEN, young) == near(store.time() - 5)


def test_one_that_cannot_be_looked_after_does_not_keep_the_others(store: Store, client: redis.Redis) -> None:
    odd, lost = store.submit(b"7").id, store.submit(b"7").id
    client.set("rq:queue:odd", "of another type")
    client.hset(keys.job(odd), "origin", "odd")
    client.delete(keys.job(lost))
    assert store.sweep(0) == (2, 1)
    assert client.zrange(keys.OPEN, 0, -1) == [odd.encode()]


def test_what_is_open_is_remembered_until_it_has_ended(short: Store, client: redis.Redis) -> None:
    short.submit(b"7")
    for key in (keys.OPEN, keys.ACCEPTED):
        client.expire(key, 5)
    short.sweep(0)
    assert all(2 * TTL <= client.ttl(key) <= 2.2 * TTL for key in (keys.OPEN, keys.ACCEPTED))


# ---------------------------------------------------------------------- what goes back


def test_waiting_pictures_stay_in_their_place_in_the_queue(store: Store, client: redis.Redis) -> None:
    ids = [store.submit(b"7").id for _ in range(3)]
    assert store.sweep(0) == (3, 0)
    assert client.lrange(QUEUE, 0, -1) == [id.encode() for id in ids]
    assert client.zcard(keys.OPEN) == 3


@pytest.mark.parametrize("status", ["queued", "started", "scheduled"])
def test_a_job_that_is_nowhere_goes_back_to_the_front(status: str, store: Store, client: redis.Redis) -> None:
    id, behind = store.submit(b"7").id, store.submit(b"7").id
    client.lrem(QUEUE, 1, id)
    client.hset(keys.job(id), "status", status)
    assert store.sweep(0) == (2, 1)
    assert client.lrange(QUEUE, 0, -1) == [id.encode(), behind.encode()]
    assert client.hget(keys.job(id), "status") == b"queued"


@pytest.mark.parametrize("status", ["queued", "started"])
@pytest.mark.parametrize("left", [60, -60])
def test_a_job_under_a_lease_is_left_to_its_worker_or_to_the_recovery(
    status: str, left: int, store: Store, client: redis.Redis
) -> None:
    id = store.submit(b"7").id
    [claim] = store.claim("w", keys.QUEUES, 1, "n")
    client.zadd(WIP, {f"{id}:{claim.execution}": store.time() + left})
    client.hset(keys.job(id), "status", status)
    assert store.sweep(0) == (1, 0)
    assert not waits(client, id)


def test_a_job_under_a_stock_workers_lease_is_left(store: Store, client: redis.Redis) -> None:
    id = store.submit(b"7").id
    client.delete(QUEUE)
    client.hset(keys.job(id), "status", "started")
    client.zadd(f"rq:executions:{id}", {"theirs": 1})
    client.zadd(WIP, {f"{id}:theirs": store.time() + 60})
    assert store.sweep(0) == (1, 0)


@pytest.mark.parametrize(("status", "key"), [("scheduled", "rq:scheduled:digitq"), ("deferred", "x")])
def test_a_job_that_waits_for_its_time_or_for_another_is_left(
    status: str, key: str, store: Store, client: redis.Redis
) -> None:
    id = store.submit(b"7").id
    client.delete(QUEUE)
    client.hset(keys.job(id), "status", status)
    client.zadd(key, {id: 2_000_000_000})
    assert store.sweep(0) == (1, 0)
    assert not waits(client, id)


def test_a_job_of_no_queue_is_left(store: Store, client: redis.Redis) -> None:
    none, empty = store.submit(b"7").id, store.submit(b"7").id
    client.delete(QUEUE)
    client.hdel(keys.job(none), "origin")
    client.hset(keys.job(empty), "origin", "")
    assert store.sweep(0) == (2, 0)
    assert not client.exists(QUEUE, "rq:queue:")


@pytest.mark.parametrize(("others", "back"), [(1000, True), (1001, False)])
def test_in_a_long_queue_nobody_is_searched_for(others: int, back: bool, store: Store, client: redis.Redis) -> None:
    id = store.submit(b"7").id
    client.delete(QUEUE)
    client.rpush(QUEUE, *range(others))
    store.sweep(0)
    assert waits(client, id) is back


# ---------------------------------------------------------------------- ended jobs


def test_what_rq_has_ended_is_told_as_it_will_be_read(short: Store, client: redis.Redis) -> None:
    id = short.submit(b"7", idempotency_key="k").id
    Job.fetch(id, connection=client, serializer="json").cancel()
    client.expire(keys.image(id), 5)
    client.persist(keys.job(id))
    with hearing(client) as heard:
        assert short.sweep(0) == (1, 1)
        [told] = heard()
    assert Prediction.from_record(id, told) == short.fetch(id)
    assert short.fetch(id).finished_at == near(short.time())
    names = (keys.job(id), keys.image(id), "digitq:idempotency:k")
    assert [client.ttl(key) for key in names] == [near(TTL)] * 3
    assert not client.exists(keys.OPEN, keys.ACCEPTED, "digitq:bytes")


def test_the_time_of_an_end_that_rq_has_noted_is_kept(store: Store, client: redis.Redis) -> None:
    id = store.submit(b"7").id
    client.hset(keys.job(id), mapping={"status": "stopped", "ended_at": "2026-01-01T00:00:00.000000Z"})
    store.sweep(0)
    assert (store.fetch(id).state, store.fetch(id).finished_at) == (State.CANCELLED, 1767225600.0)
    assert not client.exists(keys.OPEN)  # a job that RQ has stopped has ended


def test_a_failure_that_rq_keeps_for_ever_is_its_own_business(store: Store, client: redis.Redis) -> None:
    id = store.submit(b"7").id
    client.hset(keys.job(id), mapping={"status": "failed"})
    client.persist(keys.job(id))
    store.sweep(0)
    assert client.ttl(keys.job(id)) == -1


@pytest.mark.parametrize(("image", "code"), [(True, "lost"), (False, "expired")])
def test_a_picture_whose_job_is_gone_is_told_to_its_owner_as_lost_or_expired(
    image: bool, code: str, short: Store, client: redis.Redis
) -> None:
    id = short.submit(b"7", caller=Caller("me")).id
    client.delete(keys.job(id), *([] if image else [keys.image(id)]))
    client.expire(keys.image(id), 5)
    with hearing(client) as heard:
        assert short.sweep(0) == (1, 1)
        [told] = heard()
    assert (told["digitq_owner"], Prediction.from_record(id, told)) == ("me", short.fetch(id, "me"))
    found = short.fetch(id)
    assert (found.error and found.error["code"], found.finished_at) == (code, near(short.time()))
    assert client.ttl(f"digitq:gone:{id}") == near(TTL)
    assert client.ttl(keys.image(id)) == (near(TTL) if image else -2)
    assert not client.exists(keys.OPEN, keys.ACCEPTED, "digitq:bytes")


def test_a_strangers_job_that_has_ended_is_dropped_without_a_word(store: Store, client: redis.Redis) -> None:
    job = rq_queue(client).enqueue("tests.jobs.double", 21, job_id="j")
    assert store.claim("w", keys.QUEUES, 1, "n")
    job.set_status("finished")  # type: ignore[arg-type]
    with hearing(client) as heard:
        assert store.sweep(0) == (1, 0)
        assert heard() == []
    assert not client.exists(keys.OPEN)


def test_what_a_reader_names_is_looked_after_at_once(store: Store, client: redis.Redis) -> None:
    id, other = store.submit(b"7").id, store.submit(b"7").id
    for one in (id, other):
        Job.fetch(one, connection=client, serializer="json").cancel()
    store.look_after([id])
    assert client.zrange(keys.OPEN, 0, -1) == [other.encode()]


# ---------------------------------------------------------------------- batches


def test_a_batch_that_waits_stays_whole_and_a_chunk_that_is_nowhere_goes_back(
    short: Store, client: redis.Redis
) -> None:
    id = Batches(short).submit([one for _ in range(2) for one in packed([Item("a.png", b"7")])]).id
    client.lrem("rq:queue:digitq-low", 1, f"{id}-1")
    names = [keys.batch(id), keys.results(f"{id}-0"), keys.results(f"{id}-1")]
    for key in names:
        client.expire(key, 5)
    assert short.sweep(0) == (1, 1)
    assert [client.ttl(key) for key in names] == [near(2 * TTL)] * 3
    assert client.lrange("rq:queue:digitq-low", 0, -1) == [f"{id}-1".encode(), f"{id}-0".encode()]
    assert client.zscore(keys.OPEN, id)


def test_a_batch_that_rq_has_ended_is_ended_when_nobody_polls(short: Store, client: redis.Redis) -> None:
    id = Batches(short).submit([raw(bytes(784), 28, 28)]).id
    Job.fetch(f"{id}-0", connection=client, serializer="json").delete()
    assert short.sweep(0) == (1, 1)
    assert (client.hget(keys.batch(id), "state"), client.ttl(keys.batch(id))) == (b"finished", near(TTL))
    assert not client.exists(keys.OPEN)


# ---------------------------------------------------------------------- counts that drifted


def test_counts_start_afresh_when_nothing_waits_or_is_claimed(store: Store, client: redis.Redis) -> None:
    client.set(keys.BULK, 5)
    store.submit(b"7")
    client.sadd(keys.skipped("digitq"), "x")
    client.sadd(keys.skipped("digitq-low"), "x")
    store.look_after([])
    store.sweep(0)
    assert client.exists(keys.BULK, keys.skipped("digitq")) == 2 and not client.exists(keys.skipped("digitq-low"))
    [claim] = store.claim("w", keys.QUEUES, 1, "n")
    store.sweep(0)
    assert client.exists(keys.BULK) and not client.exists(keys.skipped("digitq"))
    store.release("w", [claim])
    finish(store)
    store.look_after(["nobody"])
    assert client.exists(keys.BULK)
    store.sweep(0)
    assert not client.exists(keys.BULK)
