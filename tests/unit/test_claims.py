"""Tests of claims: the jobs that are taken, their order, alone or with others, and the fields written for each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import redis

from shared import keys
from shared.batches import Batches
from shared.chunks import Item, packed, raw
from shared.claims import Claim, Finish
from shared.prediction import State
from shared.store import Store
from shared.submission import Caller
from tests.repairing import rq_queue

LONG_AGO = "2026-01-01T00:00:00.000000Z"
TTL = 600


@pytest.fixture
def short(store: Store) -> Store:
    return Store(store.client, replace(store.settings, result_ttl_seconds=TTL))


def claim(store: Store, limit: int = 64) -> list[Claim]:
    return store.claim("w", keys.QUEUES, limit, "n")


def of_a_stranger(client: redis.Redis, **options: Any) -> str:
    """A picture that a plain RQ client has enqueued."""
    client.set(keys.image("p"), b"7", ex=600)
    return str(rq_queue(client).enqueue(keys.JOB_FUNCTION, "p", job_id="p", **options).id)


def put_back(client: redis.Redis, id: str, run: str = "1:x") -> None:
    """A recovery has put a job back that a worker had started."""
    client.hset(keys.job(id), mapping={"status": "queued", "started_at": LONG_AGO, "digitq_run": run})


def arrived(client: redis.Redis) -> int:
    return sum(int(client.hget(key, "arrived") or 0) for key in client.scan_iter("digitq:flow:*"))


# ---------------------------------------------------------------------- which


def test_a_claim_takes_as_many_as_it_may_and_leaves_the_rest_in_place(store: Store, client: redis.Redis) -> None:
    ids = [store.submit(b"7").id for _ in range(5)]
    assert [one.id for one in claim(store, 2)] == ids[:2]
    assert client.lrange("rq:queue:digitq", 0, -1) == [id.encode() for id in ids[2:]]
    assert [one.id for one in claim(store, 3)] == ids[2:]


def test_what_is_no_longer_to_be_run_takes_nobodys_place(store: Store, client: redis.Redis) -> None:
    gone, cancelled, *ids = (store.submit(b"7").id for _ in range(4))
    client.delete(keys.job(gone))
    client.hset(keys.job(cancelled), "status", "canceled")
    client.sadd(keys.skipped("digitq"), cancelled, "another")
    assert [one.id for one in claim(store, 2)] == ids
    assert client.smembers(keys.skipped("digitq")) == {b"another"}
    assert client.llen("rq:queue:digitq") == 0


def test_a_claim_skips_a_bounded_number_of_jobs(store: Store, client: redis.Redis) -> None:
    client.rpush("rq:queue:digitq", *(f"gone-{n}" for n in range(10_500)))
    id = store.submit(b"7").id
    assert claim(store) == []
    assert client.llen("rq:queue:digitq") < 600
    assert [one.id for one in claim(store)] == [id]


def test_a_job_that_was_started_before_is_claimed_alone(store: Store, client: redis.Redis) -> None:
    first, again, third = (store.submit(b"7").id for _ in range(3))
    put_back(client, again)
    assert [[(one.id, one.attempt) for one in claim(store)] for _ in range(3)] == [
        [(first, 1)], [(again, 2)], [(third, 1)]
    ]  # fmt: skip


@pytest.mark.parametrize(("run", "attempt"), [("", 2), ("1:x", 2), ("3:x", 4), ("many", 2)])
def test_an_attempt_follows_the_last_that_is_known(run: str, attempt: int, store: Store, client: redis.Redis) -> None:
    put_back(client, store.submit(b"7").id, run)
    assert [one.attempt for one in claim(store)] == [attempt]


def test_a_job_under_a_valid_lease_of_another_is_not_taken(store: Store, client: redis.Redis) -> None:
    id = store.submit(b"7").id
    put_back(client, id)
    client.zadd("rq:wip:digitq", {f"{id}:x": store.time() + 60})
    assert claim(store) == []
    assert (store.fetch(id).state, client.llen("rq:queue:digitq")) == (State.RUNNING, 0)
    put_back(client, id)
    client.lpush("rq:queue:digitq", id)
    client.zadd("rq:wip:digitq", {f"{id}:x": store.time() - 1})
    assert [one.id for one in claim(store)] == [id]


def test_a_job_under_a_stock_workers_lease_is_not_taken(store: Store, client: redis.Redis) -> None:
    id = store.submit(b"7").id
    put_back(client, id, run="")
    client.zadd(f"rq:executions:{id}", {"theirs": 1})
    client.zadd("rq:wip:digitq", {f"{id}:theirs": store.time() + 60})
    assert claim(store) == []


@pytest.mark.parametrize(
    "field",
    ["success_callback_name", "failure_callback_name", "stopped_callback_name", "group_id", "repeats_left",
     "rate_limit_key", "webhooks", "dependency_id"],
)  # fmt: skip
def test_what_makes_a_job_rqs_own_business_keeps_it_out_of_a_batch(
    field: str, store: Store, client: redis.Redis
) -> None:
    id = of_a_stranger(client)
    client.hset(keys.job(id), field, "")
    [one] = claim(store)
    assert one.batchable
    store.release("w", [one])
    client.hset(keys.job(id), field, "x")
    assert [(one.batchable, one.chunk, one.image) for one in claim(store)] == [(False, False, b"")]


def test_a_job_that_others_wait_for_is_run_alone(store: Store, client: redis.Redis) -> None:
    first, watched = store.submit(b"7").id, store.submit(b"7").id
    client.sadd(f"{keys.job(watched)}:dependents", "another")
    assert [(one.id, one.batchable) for one in claim(store)] == [(first, True)]
    assert [(one.id, one.batchable) for one in claim(store)] == [(watched, False)]


@pytest.mark.parametrize("field", ["timeout", "result_ttl", "failure_ttl"])
@pytest.mark.parametrize(
    ("value", "usual"),
    [
        ("1", True),
        ("999999999", True),
        ("1000000000", False),
        ("0", False),
        ("-1", False),
        ("x", False),
        ("1.5", False),
    ],
)
def test_a_time_that_is_kept_for_ever_or_malformed_is_rqs_own_business(
    field: str, value: str, usual: bool, store: Store, client: redis.Redis
) -> None:
    client.hset(keys.job(of_a_stranger(client)), field, value)
    assert [one.batchable for one in claim(store)] == [usual]


# ---------------------------------------------------------------------- what is written


def test_a_claim_is_a_lease_and_a_started_job(store: Store, client: redis.Redis) -> None:
    ids = [store.submit(b"7", "a.png", caller=Caller("me"), idempotency_key="k").id, store.submit(b"8").id]
    one, other = claim(store)
    assert one.execution != other.execution
    lease = store.time() + store.settings.lease_seconds
    for claimed in (one, other):
        assert client.zscore("rq:wip:digitq", f"{claimed.id}:{claimed.execution}") == pytest.approx(lease, abs=1)
        job = {name: client.hget(keys.job(claimed.id), name) for name in ("status", "worker_name", "digitq_run")}
        assert job == {"status": b"started", "worker_name": b"w", "digitq_run": f"1:{claimed.execution}".encode()}
        assert store.fetch(claimed.id).started_at == pytest.approx(store.time(), abs=1)
    assert (one.id, one.image, one.owner, one.key, one.about) == (
        ids[0], b"7", "me", "me:k", '{"filename":"a.png"}'
    )  # fmt: skip
    assert float(one.claimed_at) == pytest.approx(store.time(), abs=1)
    assert one.submitted_at == client.hget(keys.job(one.id), "created_at").decode()


def test_a_strangers_job_does_not_expire_while_it_runs(store: Store, client: redis.Redis) -> None:
    id = of_a_stranger(client, ttl=60)
    [one] = claim(store)
    assert client.ttl(keys.job(id)) == -1
    store.release("w", [one])
    client.hdel(keys.job(id), "ttl")
    put_back(client, id)
    client.expire(keys.job(id), 60)  # as RQ leaves one that has ended before
    assert claim(store) and client.ttl(keys.job(id)) == -1


def test_a_picture_that_is_put_back_has_its_whole_time_again(short: Store, client: redis.Redis) -> None:
    id = short.submit(b"7").id
    put_back(client, id)
    client.expire(keys.job(id), 5)
    assert claim(short) and client.ttl(keys.job(id)) == pytest.approx(2 * TTL, abs=2)


def test_what_an_earlier_end_has_left_is_no_part_of_the_next_run(store: Store, client: redis.Redis) -> None:
    id = store.submit(b"7").id
    put_back(client, id)
    client.hset(keys.job(id), "digitq_found", '{"error":["bug","x"]}')
    client.set(keys.model_input(id), b"x")
    assert claim(store)
    assert (client.hget(keys.job(id), "digitq_found"), client.exists(keys.model_input(id))) == (None, 0)


@pytest.mark.parametrize(("own", "kept"), [({}, b"600"), ({"failure_ttl": 77}, b"77")])
def test_a_failure_is_kept_for_our_time_unless_its_client_says_otherwise(
    own: dict[str, int], kept: bytes, short: Store, client: redis.Redis
) -> None:
    id = of_a_stranger(client, **own)
    claim(short)
    assert client.hget(keys.job(id), "failure_ttl") == kept


def test_a_strangers_picture_arrives_with_its_first_claim(store: Store, client: redis.Redis) -> None:
    id = of_a_stranger(client)
    for _ in range(2):
        assert [one.id for one in claim(store)] == [id]
        assert (arrived(client), client.zrange(keys.RECENT, 0, -1)) == (1, [b"p"])
        assert client.zscore(keys.OPEN, id)
        put_back(client, id)
        client.lpush("rq:queue:digitq", id)
        client.delete("rq:wip:digitq", keys.OPEN)


def test_a_strangers_job_is_looked_after_and_is_no_picture(store: Store, client: redis.Redis) -> None:
    rq_queue(client).enqueue("tests.jobs.double", 21, job_id="j")
    assert claim(store)
    assert client.zscore(keys.OPEN, "j")
    assert (arrived(client), client.exists(keys.RECENT)) == (0, 0)


def test_accepted_pictures_are_counted_once_and_chunks_with_their_batch(store: Store, client: redis.Redis) -> None:
    store.submit(b"7")
    batch = Batches(store).submit([raw(bytes(2 * 784), 28, 28)]).id
    opened = client.zrange(keys.OPEN, 0, -1)
    assert claim(store) and [one.chunk for one in claim(store)] == [True]
    assert (arrived(client), client.zcard(keys.RECENT)) == (3, 1)
    assert client.zrange(keys.OPEN, 0, -1) == opened and client.zscore(keys.OPEN, batch)


def test_a_workers_hash_that_was_made_anew_expires_and_another_keeps_its_time(
    store: Store, client: redis.Redis
) -> None:
    store.submit(b"7")
    [one] = claim(store)
    assert 0 < client.ttl(keys.worker("w")) <= 120
    client.expire(keys.worker("w"), 1000)
    store.finish("w", [Finish(one, "e30=", "")])
    assert client.ttl(keys.worker("w")) > 900
    client.persist(keys.worker("w"))
    store.finish("w", [])
    assert 0 < client.ttl(keys.worker("w")) <= 120


def test_a_chunk_is_claimed_alone_with_its_pack(store: Store) -> None:
    id = Batches(store).submit([one for _ in range(2) for one in packed([Item("a.png", b"7")])]).id
    first, second = claim(store), claim(store)
    assert [[(one.id, one.chunk, one.attempt) for one in claims] for claims in (first, second)] == [
        [(f"{id}-0", True, 1)], [(f"{id}-1", True, 1)]
    ]  # fmt: skip
    assert first[0].image
