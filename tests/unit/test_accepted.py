"""Tests of accepted pictures and batches: idempotency, atomicity, the fields of jobs and chunks, and time to live."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import redis
from rq.job import Job

from shared import keys
from shared.batches import Batches
from shared.chunks import Chunk
from shared.errors import IdempotencyMismatch, RedisUnavailable
from shared.ids import new_id
from shared.prediction import State
from shared.staging import stage
from shared.store import Store
from shared.submission import Caller, Submission
from tests.unit.test_admission import BYTES, TTL, answers, changed, pictures


def test_in_one_round_trip_an_idempotency_key_stands_for_the_first(store: Store, client: redis.Redis) -> None:
    first = Submission(new_id(), b"1", idempotency_key="k")
    same, other = (replace(first, id=new_id(), image=image) for image in (b"1", b"2"))
    replies = store.submit_all([first, same, other])
    assert [(reply[0], reply[1].decode()) for reply in replies] == [
        (b"accepted", first.id), (b"repeated", first.id), (b"mismatch", first.id)
    ]  # fmt: skip
    assert client.llen("rq:queue:digitq") == 1


def test_in_one_round_trip_an_id_is_one_picture(store: Store, client: redis.Redis) -> None:
    one = Submission(new_id(), b"1")
    assert answers(store, one, one) == [b"accepted", b"repeated"]
    assert (client.llen("rq:queue:digitq"), client.hvals(BYTES)) == (1, [b"1"])


def test_owners_do_not_share_their_idempotency_keys(store: Store) -> None:
    ids = {store.submit(b"1", idempotency_key="k", caller=Caller(owner)).id for owner in ("", "a", "b")}
    assert len(ids) == 3


def test_the_key_of_a_batch_is_free_once_the_batch_is_forgotten(store: Store) -> None:
    batches = Batches(store)
    first = batches.submit(pictures(b"7"), idempotency_key="k", fingerprint="f")
    with pytest.raises(IdempotencyMismatch):
        batches.submit(pictures(b"8"), idempotency_key="k", fingerprint="other")
    store.client.hset(keys.batch(first.id), "state", "forgotten")
    assert batches.submit(pictures(b"8"), idempotency_key="k", fingerprint="other").id != first.id


def test_a_batch_that_is_handed_over_twice_is_accepted_once(store: Store, client: redis.Redis) -> None:
    batches, door = Batches(store), {"key": "", "fingerprint": "", "owner": "", "client": "", "read": "digit",
                                     "filename": ""}  # fmt: skip
    [chunk], id = pictures(b"1", b"2"), new_id()
    stage(store, f"{id}-0", id, 0, chunk, {})
    taken = [batches._commit(id, 2, 1, keys.Priority.LOW, door) for _ in range(2)]
    assert taken == [("accepted", id), ("repeated", id)]
    assert (client.llen("rq:queue:digitq-low"), client.get(keys.BULK)) == (1, b"1")


def test_an_answer_that_is_lost_leaves_the_batch_whole(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = store.run_safely

    def answer_is_lost(name: str, on: Any, args: Any, pictures: int = 0) -> Any:
        commit(name, on, args, pictures)
        raise RedisUnavailable()

    monkeypatch.setattr(store, "run_safely", answer_is_lost)
    with pytest.raises(RedisUnavailable):
        Batches(store).submit(pictures(b"1", b"2"))
    [claim] = store.claim("w", keys.QUEUES, 64, "n")
    assert claim.chunk and claim.image


def test_a_batch_under_a_key_that_is_taken_is_not_read(store: Store) -> None:
    first = Batches(store).submit(pictures(b"7"), idempotency_key="k", fingerprint="f")

    def unread() -> Iterator[Chunk]:
        raise AssertionError
        yield

    assert Batches(store).submit(unread(), idempotency_key="k", fingerprint="f").id == first.id


def test_of_two_batches_under_one_key_at_once_one_is_kept(store: Store, client: redis.Redis) -> None:
    batches, first = Batches(store), []

    def overtaken() -> Iterator[Chunk]:
        first.append(batches.submit(pictures(b"7"), idempotency_key="k", fingerprint="f").id)
        yield from pictures(b"7")

    assert batches.submit(overtaken(), idempotency_key="k", fingerprint="f").id == first[0]
    assert client.keys("digitq:chunk:*") == [keys.chunk(f"{first[0]}-0").encode()]


def test_what_is_staged_expires_with_its_producer(store: Store, client: redis.Redis) -> None:
    def watched() -> Iterator[Chunk]:
        yield from pictures(b"1")
        staged = client.keys("digitq:*-0")
        assert len(staged) == 2 and all(0 < client.ttl(key) <= 120 for key in staged)

    assert Batches(store).submit(watched()).total == 1


def test_a_chunk_whose_answer_is_lost_is_deleted(
    store: Store, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer_is_lost(*args: Any) -> None:
        stage(*args)
        raise RedisUnavailable()

    monkeypatch.setattr("shared.batches.stage", answer_is_lost)
    with pytest.raises(RedisUnavailable):
        Batches(store).submit(pictures(b"1"))
    assert client.keys() == []


@pytest.mark.parametrize("key", [keys.chunk, keys.results])
def test_a_batch_whose_staged_bytes_have_expired_is_refused_whole(key: Any, store: Store, client: redis.Redis) -> None:
    def slow() -> Iterator[Chunk]:
        first, second = pictures(b"1"), pictures(b"2")
        yield from first
        [staged] = client.keys(key("*-0"))
        client.delete(staged)
        yield from second

    with pytest.raises(RedisUnavailable, match="too long") as refused:
        Batches(store).submit(slow())
    assert refused.value.status == 503
    assert client.keys() == []


# ---------------------------------------------------------------------- what is written


def test_a_picture_that_cannot_be_written_is_refused_alone(store: Store, client: redis.Redis) -> None:
    good, bad = (Submission(new_id(), b"7", notes={"callback_url": "https://x"}) for _ in range(2))
    client.rpush(keys.callback(bad.id), "of another type")
    assert answers(store, bad, good) == [b"failed", b"accepted"]
    assert client.keys(f"*{bad.id}*") == []
    assert store.fetch(good.id).state is State.QUEUED
    assert (client.hvals(BYTES), client.zrange(keys.RECENT, 0, -1)) == ([b"1"], [good.id.encode()])
    assert client.hkeys(keys.ACCEPTED) == [good.id.encode()]


def test_a_picture_waits_for_twice_its_time_and_its_bytes_for_once(store: Store, client: redis.Redis) -> None:
    one = changed(store, job_timeout_seconds=11, max_attempts=4)
    id = one.submit(b"7", notes={"callback_url": "https://x"}, caller=Caller("me")).id
    assert client.ttl(keys.job(id)) == pytest.approx(2 * TTL, abs=2)
    assert client.ttl(keys.callback(id)) == pytest.approx(2 * TTL, abs=2)
    assert TTL <= client.ttl(keys.image(id)) <= TTL + 31
    assert client.hgetall(keys.callback(id)) == {b"url": b"https://x", b"owner": b"me"}
    job = Job.fetch(id, connection=client, serializer="json")
    assert (job.timeout, job.retries_left, job.result_ttl, job.failure_ttl) == (11, 3, TTL, TTL)
    assert client.sismember("rq:queues", "rq:queue:digitq")
    for key, ttl in ((keys.ACCEPTED, 2 * TTL), (keys.OPEN, 2 * TTL), (keys.recent("me"), TTL)):
        assert ttl <= client.ttl(key) <= 1.1 * ttl, key


def test_a_chunk_may_be_tried_as_often_as_its_pictures_one_by_one(store: Store, client: redis.Redis) -> None:
    one = changed(store, job_timeout_seconds=11, max_attempts=3)
    id = Batches(one).submit(pictures(*[b"7"] * 4), idempotency_key="k", caller=Caller("me")).id
    job = Job.fetch(f"{id}-0", connection=client, serializer="json")
    assert (job.retries_left, job.timeout, job.result_ttl, job.failure_ttl) == (12, 44, TTL, TTL)
    assert client.sismember("rq:queues", "rq:queue:digitq-low")
    for key in (keys.batch(id), keys.chunk(f"{id}-0"), keys.results(f"{id}-0"), keys.OPEN, keys.recent_batches("me")):
        assert 2 * TTL - 2 <= client.ttl(key) <= 2.2 * TTL, key


def test_an_owners_history_has_its_own_pictures_in_the_order_in_which_they_came(
    store: Store, client: redis.Redis
) -> None:
    mine = [Submission(new_id(), b"7", caller=Caller("me")) for _ in range(3)]
    others = Submission(new_id(), b"7")
    store.submit_all([*mine, others])
    assert [one.id for one in store.recent(10, owner="me")[0]] == [one.id for one in mine][::-1]
    assert [one.id for one in store.recent(10)[0]] == [others.id]


def test_what_arrives_is_counted_picture_by_picture(store: Store, client: redis.Redis) -> None:
    store.submit_all([Submission(new_id(), b"7") for _ in range(3)])
    Batches(store).submit(pictures(*[b"7"] * 4))
    flow = client.keys("digitq:flow:*")
    assert sum(int(client.hget(key, "arrived") or 0) for key in flow) == 7
    assert all(0 < client.ttl(key) <= 60 for key in flow)
