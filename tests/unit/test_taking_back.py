"""Tests of cancelling waiting and deleting ended pictures and batches, with their keys, and step by step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import redis
from rq.job import Job

from shared import batches as operations
from shared import keys
from shared.batch import BatchState
from shared.batches import Batches
from shared.chunks import Item, packed, raw
from shared.errors import NotFound, StillRunning
from shared.ids import new_id
from shared.prediction import Prediction, State
from shared.store import Store
from shared.submission import Caller
from tests.answering import finish
from tests.listening import hearing
from tests.repairing import burst, deep

CALLBACK = {"callback_url": "https://example.org"}


@pytest.fixture
def short(store: Store) -> Store:
    """With a time to live that no other number looks like."""
    return Store(store.client, replace(store.settings, result_ttl_seconds=600))


@pytest.fixture
def two_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "CANCELLED_AT_ONCE", 2)


def batch_of(store: Store, chunks: int, **options: Any) -> str:
    pictures = [one for _ in range(chunks) for one in packed([Item("a.png", b"7")])]
    return Batches(store).submit(pictures, **options).id


def of(client: redis.Redis, id: str) -> list[bytes]:
    return sorted(client.keys(f"*{id}*"))


# ---------------------------------------------------------------------- pictures


def test_what_is_cancelled_is_told_as_it_will_be_read_and_its_callback_is_due(
    store: Store, client: redis.Redis
) -> None:
    id = store.submit(b"7", "a.png", notes=CALLBACK).id
    with hearing(client) as heard:
        store.cancel(id)
        [told] = heard()
    assert Prediction.from_record(id, told) == store.fetch(id)
    assert store.fetch(id).finished_at
    due = store.due_webhook(5, 3)
    assert due and due.id == id
    assert not client.exists(keys.OPEN, keys.ACCEPTED, "digitq:bytes")


def test_what_is_cancelled_is_kept_for_its_time_and_no_longer(short: Store, client: redis.Redis) -> None:
    id = short.submit(b"7", idempotency_key="k").id
    short.cancel(id)
    assert [client.ttl(key) for key in (keys.job(id), "digitq:idempotency:k")] == [pytest.approx(600, abs=2)] * 2
    assert client.zscore("rq:canceled:digitq", id) == pytest.approx(short.time(), abs=2)


def test_what_is_cancelled_deep_in_a_queue_is_marked_for_as_long_as_it_may_stand_there(
    short: Store, client: redis.Redis
) -> None:
    id = deep(short, client)
    short.cancel(id)
    assert client.lpos("rq:queue:digitq", id) is not None
    assert client.smembers(keys.skipped("digitq")) == {id.encode()}
    assert client.ttl(keys.skipped("digitq")) == pytest.approx(1200, abs=2)


@pytest.mark.parametrize(("before", "after"), [(1500, 10), (10, 1500)])
def test_what_is_cancelled_near_an_end_of_a_long_queue_leaves_it(
    before: int, after: int, store: Store, client: redis.Redis
) -> None:
    client.rpush("rq:queue:digitq", *(f"before-{n}" for n in range(before)))
    id = store.submit(b"7").id
    client.rpush("rq:queue:digitq", *(f"after-{n}" for n in range(after)))
    store.cancel(id)
    assert client.lpos("rq:queue:digitq", id) is None
    assert not client.exists(keys.skipped("digitq"))


def test_a_job_that_names_no_queue_cannot_be_taken_back(store: Store, client: redis.Redis) -> None:
    id = store.submit(b"7").id
    client.hdel(keys.job(id), "origin")
    with pytest.raises(StillRunning):
        store.cancel(id)


def test_a_job_that_stands_in_no_queue_cannot_be_taken_back(store: Store, client: redis.Redis) -> None:
    id = store.submit(b"7").id
    client.delete("rq:queue:digitq")  # a stock worker has just taken it
    with pytest.raises(StillRunning):
        store.cancel(id)
    assert store.fetch(id).state is State.QUEUED


def test_what_runs_is_not_taken_back_although_it_stands_in_a_queue(store: Store, client: redis.Redis) -> None:
    id = store.submit(b"7").id
    store.claim("w", keys.QUEUES, 1, "n")
    client.lpush("rq:queue:digitq", id)  # two recoveries ran at once
    with pytest.raises(StillRunning):
        store.cancel(id)
    assert store.fetch(id).state is State.RUNNING


def test_a_scheduled_job_that_has_just_been_enqueued_cannot_be_taken_back(store: Store, client: redis.Redis) -> None:
    id = store.submit(b"7").id
    client.hset(keys.job(id), "status", "scheduled")  # its entry there is gone
    with pytest.raises(StillRunning):
        store.cancel(id)
    assert client.lpos("rq:queue:digitq", id) == 0


def test_what_is_forgotten_frees_its_idempotency_key_and_leaves_rqs_registries(
    short: Store, client: redis.Redis
) -> None:
    id = short.submit(b"7", idempotency_key="k", notes=CALLBACK, caller=Caller("me")).id
    assert client.exists("digitq:idempotency:me:k", keys.recent("me")) == 2
    finish(short)
    assert client.zscore("rq:finished:digitq", id)
    short.cancel(id)
    assert of(client, id) == [f"digitq:gone:{id}".encode()]
    assert client.ttl(f"digitq:gone:{id}") == pytest.approx(600, abs=2)
    assert not client.exists("digitq:idempotency:me:k", keys.recent("me"))
    assert client.zscore("rq:finished:digitq", id) is None


def test_a_key_that_stands_for_a_later_picture_is_not_freed_with_the_first(store: Store, client: redis.Redis) -> None:
    first = store.submit(b"7", idempotency_key="k").id
    finish(store)
    client.delete("digitq:idempotency:k")
    second = store.submit(b"7", idempotency_key="k").id
    store.cancel(first)
    assert store.submit(b"7", idempotency_key="k").id == second


def test_what_rq_had_ended_and_is_forgotten_is_told_no_more(store: Store, client: redis.Redis) -> None:
    id = store.submit(b"7").id
    Job.fetch(id, connection=client, serializer="json").cancel()
    with hearing(client) as heard:
        store.cancel(id)
        assert not client.exists(keys.OPEN, keys.ACCEPTED, "digitq:bytes")
        store.sweep(0)
        assert heard() == []


# ---------------------------------------------------------------------- batches


@pytest.mark.usefixtures("two_at_once")
@pytest.mark.parametrize("chunks", [4, 5])
def test_a_large_batch_is_taken_back_and_forgotten_step_by_step(chunks: int, short: Store, client: redis.Redis) -> None:
    id, batches = batch_of(short, chunks, idempotency_key="k"), Batches(short)
    batches.cancel(id)
    found = batches.fetch(id)
    assert (found.state, found.cancelled) == (BatchState.CANCELLED, chunks)
    assert not [key for key in of(client, id) if b"digitq:chunk:" in key]  # nobody will run its pictures
    client.expire(keys.batch(id), 5)
    batches.cancel(id)
    assert of(client, id) == [keys.batch(id).encode()]
    assert client.hgetall(keys.batch(id)) == {b"state": b"forgotten"}
    assert client.ttl(keys.batch(id)) == pytest.approx(600, abs=2)
    assert not client.exists("digitq:idempotency:k")
    with pytest.raises(NotFound):
        batches.cancel(id)


def test_a_batch_that_ends_while_it_is_taken_back_is_not_forgotten(store: Store, client: redis.Redis) -> None:
    id = batch_of(store, 1)
    burst(store)
    ttl = store.settings.result_ttl_seconds
    assert store.tell("cancel_batch", id=id, ttl=ttl, state="running", first=0, last=15) == 0
    assert [row["digit"] for row in Batches(store).results(id)] == [7]
    waiting = batch_of(store, 1)  # of which a client has read, long ago, that it had ended
    assert store.tell("cancel_batch", id=waiting, ttl=ttl, state="finished", first=0, last=15) == 0
    assert Batches(store).fetch(waiting).state is BatchState.QUEUED


def test_of_a_batch_that_is_gone_nothing_is_taken_back(store: Store, client: redis.Redis) -> None:
    ttl = store.settings.result_ttl_seconds
    for state in ("queued", "finished"):
        assert store.tell("cancel_batch", id=new_id(), ttl=ttl, state=state, first=0, last=15) == 0
    assert client.keys() == []


def test_chunks_that_rqs_tools_have_cancelled_are_taken_back_with_the_rest(store: Store, client: redis.Redis) -> None:
    id = batch_of(store, 2)
    Job.fetch(f"{id}-0", connection=client, serializer="json").cancel()
    ttl = store.settings.result_ttl_seconds
    assert store.tell("cancel_batch", id=id, ttl=ttl, state="queued", first=0, last=15) == 2
    assert Batches(store).fetch(id).cancelled == 2


def test_a_batch_of_which_all_runs_is_running(store: Store) -> None:
    id = Batches(store).submit([raw(bytes(784), 28, 28)]).id
    store.claim("w", keys.QUEUES, 1, "n")
    with pytest.raises(StillRunning):
        Batches(store).cancel(id)
