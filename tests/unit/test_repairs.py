"""Damaged keys, RQ's tools and half-finished recoveries are repaired, even without any reader."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
import redis
from rq import Queue as RQQueue
from rq import Retry
from rq.job import Job

from shared import keys
from shared.batch import BatchState
from shared.batches import Batches
from shared.chunks import Item, packed, raw
from shared.errors import NotFound, QueueFull
from shared.prediction import State
from shared.record import state_of
from shared.store import Store
from tests.repairing import burst, deep, expire_leases, rq_queue, serving
from worker.queue import recovery

CALLBACK = {"callback_url": "https://example.org"}
LOST = ["lost", "The job was deleted from the queue."]


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets each run of the recovery check all open predictions."""
    monkeypatch.setattr(recovery, "SWEEP_AFTER_SECONDS", 0)


# ---------------------------------------------------------------------- damaged keys, missing rights, full memory


@pytest.mark.parametrize(
    ("key", "code"),
    [
        ("digitq:image:{}", "unreadable_job"),
        ("rq:job:{}", "lost"),
        ("rq:results:{}", None),
        ("digitq:input:{}", None),
    ],
)
def test_a_key_of_another_type_fails_its_picture_alone(
    key: str, code: str | None, store: Store, client: redis.Redis
) -> None:
    ids = [store.submit(str(digit).encode()).id for digit in range(3)]
    client.delete(key.format(ids[1]))
    client.rpush(key.format(ids[1]), "x")
    burst(store)
    assert [store.fetch(id).digit for id in (ids[0], ids[2])] == [0, 2]
    found = store.fetch(ids[1])
    assert ((found.error or {}).get("code"), found.digit) == (code, None if code else 1)
    assert not client.exists("rq:wip:digitq", "rq:queue:digitq")


def test_what_somebody_has_put_into_our_fields_harms_nobody(store: Store, client: redis.Redis) -> None:
    ids = [store.submit(str(digit).encode()).id for digit in range(3)]
    client.hset(keys.job(ids[1]), mapping={"digitq_run": "many", "digitq_about": "{", "digitq_found": "[]"})
    assert store.fetch(ids[1]).state is State.QUEUED
    burst(store)
    assert [store.fetch(id).digit for id in ids] == [0, 1, 2]


@pytest.mark.parametrize("key", ["digitq:results:{}-0", "digitq:chunk:{}-0", "rq:job:{}-0"])
@pytest.mark.usefixtures("at_once")
def test_a_key_of_another_type_fails_its_chunk_alone(key: str, store: Store, client: redis.Redis) -> None:
    batches, single = Batches(store), store.submit(b"7").id
    chunks = [one for digit in (b"1", b"2") for one in packed([Item("a.png", digit)] * 2)]
    id = batches.submit(chunks).id
    client.delete(key.format(id))
    client.rpush(key.format(id), "x")
    burst(store)
    found = batches.fetch(id)
    assert (found.state, found.succeeded, found.failed) == (BatchState.FINISHED, 2, 2)
    rows = list(batches.results(id))
    assert [(row["index"], row["digit"]) for row in rows] == [(0, None), (1, None), (2, 2), (3, 2)]
    assert all(row["error"] for row in rows[:2])
    assert store.fetch(single).digit == 7


def test_accepted_pictures_finish_in_a_full_memory(store: Store, client: redis.Redis) -> None:
    ids = [store.submit(b"7", notes=CALLBACK).id for _ in range(3)]
    batch = Batches(store).submit(packed([Item("a.png", b"7")]))
    client.config_set("maxmemory", 1)
    try:
        with serving(store) as worker:
            while claims := worker.claimer.claim_batch():
                worker.run(claims)
    finally:
        client.config_set("maxmemory", 0)
    assert [store.fetch(id).digit for id in ids] == [7] * 3
    assert Batches(store).fetch(batch.id).succeeded == 1


# ---------------------------------------------------------------------- what nobody looks at


@pytest.mark.usefixtures("at_once")
def test_after_rq_empty_records_end_and_callbacks_are_made_when_nobody_polls(store: Store, client: redis.Redis) -> None:
    id = store.submit(b"7", notes=CALLBACK).id
    batch = Batches(store).submit(packed([Item("a.png", b"7")])).id
    for name in keys.QUEUES:
        RQQueue(name, connection=client, serializer="json").empty()
    burst(store)
    due = store.due_webhook(5, 3)
    assert due and (due.id, state_of(due.record)) == (id, (State.FAILED, {"error": LOST}))
    assert client.hget(keys.batch(batch), "state") == b"finished"
    assert not client.exists(keys.OPEN, keys.BULK)


@pytest.mark.usefixtures("at_once")
def test_a_stock_workers_recovery_is_followed_when_nobody_polls(store: Store, client: redis.Redis) -> None:
    once = Store(client, replace(store.settings, max_attempts=1))
    id = once.submit(b"7", notes=CALLBACK).id
    once.claim("dead", keys.QUEUES, 64, "n")
    expire_leases(client)
    assert rq_queue(client).started_job_registry.count == 0  # RQ cleans up when it counts
    burst(once)
    due = once.due_webhook(5, 3)
    assert due and due.id == id and state_of(due.record)[1]["error"][0] == "poison"


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("status", ["started", "scheduled", "queued"])
def test_a_job_that_is_not_where_its_status_says_runs_again(status: str, store: Store, client: redis.Redis) -> None:
    id = store.submit(b"7").id
    batch = Batches(store).submit(packed([Item("a.png", b"7")])).id
    for job, queue in ((id, "digitq"), (f"{batch}-0", "digitq-low")):
        client.lrem(keys.queue(queue), 1, job)
        client.hset(f"rq:job:{job}", "status", status)
    burst(store)
    assert store.fetch(id).digit == 7
    assert Batches(store).fetch(batch).succeeded == 1


@pytest.mark.usefixtures("at_once")
def test_a_job_of_somebody_elses_that_is_started_without_a_lease_runs_again(store: Store, client: redis.Redis) -> None:
    job = rq_queue(client).enqueue("tests.jobs.double", 21)
    store.claim("dead", keys.QUEUES, 64, "n")
    client.delete("rq:wip:digitq")
    with serving(store, allowed=["tests.jobs.double"]) as worker:
        worker.work(burst=True)
    assert (job.return_value(), job.get_status()) == (42, "finished")
    assert store.sweep(0)[0] <= 1
    assert not client.exists(keys.OPEN)


@pytest.mark.usefixtures("at_once")
def test_a_claimed_job_is_left_alone(store: Store, client: redis.Redis) -> None:
    id = store.submit(b"7").id
    store.claim("w", keys.QUEUES, 64, "n")
    burst(store)
    assert store.fetch(id).state is State.RUNNING


# ---------------------------------------------------------------------- retries with an interval


def test_a_retry_with_an_interval_runs_when_it_is_due(store: Store, client: redis.Redis) -> None:
    client.set(keys.image("p"), b"7", ex=600)
    job = rq_queue(client).enqueue(keys.JOB_FUNCTION, "p", job_id="p", retry=Retry(max=2, interval=60))
    store.claim("dead", keys.QUEUES, 64, "n")
    expire_leases(client)
    with serving(store) as worker:
        worker.recovery.recover_leases()
    assert job.get_status() == "scheduled"
    burst(store)
    assert (job.get_status(), store.fetch("p").state) == ("scheduled", State.QUEUED)
    client.zadd("rq:scheduled:digitq", {"gone": 1, "p": int(time.time()) - 1})
    burst(store)
    assert (store.fetch("p").digit, job.get_status()) == (7, "finished")
    assert not client.exists("rq:scheduled:digitq")


# ---------------------------------------------------------------------- taking back


def test_what_rq_has_cancelled_in_a_long_queue_is_not_counted_off_twice(store: Store, client: redis.Redis) -> None:
    id = deep(store, client)
    before = store.load().queued
    Job.fetch(id, connection=client, serializer="json").cancel()
    store.cancel(id)
    assert store.load().queued == before - 1


def test_a_scheduled_picture_can_be_cancelled(store: Store, client: redis.Redis) -> None:
    client.set(keys.image("p"), b"7", ex=600)
    job = rq_queue(client).enqueue(keys.JOB_FUNCTION, "p", job_id="p", retry=Retry(max=2, interval=60))
    store.claim("dead", keys.QUEUES, 64, "n")
    expire_leases(client)
    with serving(store) as worker:
        worker.recovery.recover_leases()
    assert (job.get_status(), store.fetch("p").state) == ("scheduled", State.QUEUED)
    store.cancel("p")
    assert (job.get_status(), store.fetch("p").state) == ("canceled", State.CANCELLED)
    assert not client.exists("rq:scheduled:digitq")


def test_a_cancelled_picture_is_not_run_and_does_not_count(store: Store, client: redis.Redis) -> None:
    id = deep(store, client)
    small = Store(client, replace(store.settings, queue_max_length=store.load().queued))
    with pytest.raises(QueueFull):
        small.submit(b"3")
    small.cancel(id)
    behind = small.submit(b"3").id
    with pytest.raises(QueueFull):
        small.submit(b"3")
    client.ltrim("rq:queue:digitq", 1500, -1)
    gone = client.lpos("rq:queue:digitq", id)
    client.ltrim("rq:queue:digitq", gone, gone)
    client.rpush("rq:queue:digitq", behind)
    assert store.fetch(behind).queue_position == 0
    burst(store)
    assert (store.fetch(id).state, store.fetch(behind).digit) == (State.CANCELLED, 3)
    assert store.load().queued == 0
    assert not client.exists(keys.skipped("digitq"))


def test_a_chunk_that_rq_has_cancelled_leaves_no_job_that_stays_for_ever(store: Store, client: redis.Redis) -> None:
    batch = Batches(store).submit([raw(bytes(784), 28, 28)])
    Job.fetch(f"{batch.id}-0", connection=client, serializer="json").cancel()
    assert Batches(store).fetch(batch.id).cancelled == 1
    assert client.ttl(f"rq:job:{batch.id}-0") > 0


# ---------------------------------------------------------------------- how long things live


@pytest.mark.parametrize(("ttl", "lives"), [(600, 1200), (86_400, 86_400)])
def test_an_idempotency_key_lives_no_longer_than_its_prediction(
    ttl: int, lives: int, store: Store, client: redis.Redis
) -> None:
    short = Store(client, replace(store.settings, result_ttl_seconds=ttl))
    short.submit(b"7", idempotency_key="k")
    Batches(short).submit(packed([Item("a.png", b"7")]), idempotency_key="b")
    assert [client.ttl(f"digitq:idempotency:{key}") for key in "kb"] == [pytest.approx(lives, abs=2)] * 2


def test_an_idempotency_key_ends_with_its_prediction(store: Store, client: redis.Redis) -> None:
    short = Store(client, replace(store.settings, result_ttl_seconds=600))
    short.submit(b"7", idempotency_key="k")
    burst(short)
    assert client.ttl("digitq:idempotency:k") == pytest.approx(600, abs=2)


def test_a_deleted_prediction_does_not_come_back(store: Store) -> None:
    id = store.submit(b"7").id
    burst(store)
    store.cancel(id)
    store.start_alone(id)
    with pytest.raises(NotFound):
        store.fetch(id)


def test_a_picture_lives_as_long_as_its_result(store: Store, client: redis.Redis) -> None:
    late, soon = store.submit(b"7").id, store.submit(b"7").id
    client.expire(keys.image(late), 60)
    client.hset(keys.job(late), "created_at", "2026-01-01T00:00:00.000000Z")
    burst(store)
    assert client.ttl(keys.image(late)) == pytest.approx(client.ttl(keys.job(late)), abs=2)
    assert 0 <= client.ttl(keys.image(soon)) - client.ttl(keys.job(soon)) <= 31


def test_a_batch_whose_chunks_have_expired_ends(store: Store, client: redis.Redis) -> None:
    batches = Batches(store)
    chunks = [one for digit in (b"1", b"2", b"3") for one in packed([Item("a.png", digit)] * 2)]
    id = batches.submit(chunks).id
    with serving(store) as worker:
        worker.run(worker.claimer.claim_batch())
        for n in (1, 2):
            client.delete(keys.results(f"{id}-{n}"), keys.chunk(f"{id}-{n}"))
        found = batches.fetch(id)
        assert (found.state, found.succeeded, found.failed) == (BatchState.FINISHED, 2, 4)
        rows = list(batches.results(id))
        assert [row["index"] for row in rows] == list(range(6))
        assert [(row["state"], (row["error"] or {}).get("code")) for row in rows[2:]] == [("failed", "expired")] * 4
        while claims := worker.claimer.claim_batch():
            worker.run(claims)
    assert batches.fetch(id) == found


def test_a_batch_that_waits_keeps_what_it_needs_to_end(store: Store, client: redis.Redis) -> None:
    id = Batches(store).submit(packed([Item("a.png", b"7")])).id
    for key in (keys.batch(id), keys.results(f"{id}-0")):
        client.expire(key, 5)
    store.sweep(0)
    assert min(client.ttl(key) for key in (keys.batch(id), keys.results(f"{id}-0"))) > 60
