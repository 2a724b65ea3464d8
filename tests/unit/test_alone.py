"""Pictures that RQ runs on its own path: what is noted in their jobs, counted and told."""

from __future__ import annotations

import json

import pytest
import redis
from rq import Queue as RQQueue

from shared import keys
from shared.ids import new_id
from shared.prediction import Prediction, State
from shared.store import Store
from tests.listening import hearing
from tests.repairing import rq_queue

FOUND = b'{"digit":7,"confidence":0.9,"decision":"accept"}'


@pytest.fixture
def queue(client: redis.Redis) -> RQQueue:
    return rq_queue(client)


def of_a_stranger(queue: RQQueue, **options: object) -> str:
    """A picture that a plain RQ client has enqueued."""
    queue.connection.set(keys.image("p"), b"7", ex=600)
    return str(queue.enqueue(keys.JOB_FUNCTION, "p", job_id="p", **options).id)


def started(store: Store, client: redis.Redis) -> str:
    """A picture of ours that a stock worker runs."""
    id = store.submit(b"7").id
    client.lpop("rq:queue:digitq")
    assert store.start_alone(id) == 1
    client.hset(keys.job(id), "status", "started")
    return id


def arrived(client: redis.Redis) -> int:
    return sum(int(client.hget(key, "arrived") or 0) for key in client.scan_iter("digitq:flow:*"))


def test_of_a_job_that_is_gone_nothing_is_noted(store: Store, client: redis.Redis) -> None:
    assert store.start_alone(new_id()) == 0
    assert not store.end_alone(new_id(), 1, "finished", FOUND, bytes(784))
    assert client.keys() == []


def test_each_start_is_an_attempt(store: Store, client: redis.Redis) -> None:
    id = started(store, client)
    client.hset(keys.job(id), "started_at", "2026-01-01T00:00:00.000000Z")
    assert (store.fetch(id).state, store.fetch(id).attempt) == (State.RUNNING, 1)
    assert store.start_alone(id) == 2
    assert store.fetch(id).attempt == 2


def test_the_attempt_of_a_worker_of_ours_is_not_counted_again_while_it_holds_the_job(
    store: Store, client: redis.Redis
) -> None:
    id = store.submit(b"7").id
    [claim] = store.claim("w", keys.QUEUES, 1, "n")
    assert store.start_alone(id) == 1
    assert client.hget(keys.job(id), "digitq_run") == f"1:{claim.execution}".encode()
    client.delete("rq:wip:digitq")
    assert store.start_alone(id) == 2


def test_a_strangers_picture_arrives_with_its_first_start(store: Store, queue: RQQueue, client: redis.Redis) -> None:
    id = of_a_stranger(queue)
    assert (arrived(client), client.zcard(keys.RECENT)) == (0, 0)
    for _ in range(2):
        store.start_alone(id)
        assert (arrived(client), client.zrange(keys.RECENT, 0, -1)) == (1, [b"p"])
        client.delete(keys.ACCEPTED)
    assert client.zscore(keys.OPEN, id)  # it is looked after until its end is told


def test_a_picture_of_ours_has_arrived_when_it_is_started(store: Store, client: redis.Redis) -> None:
    id = store.submit(b"7").id
    came = client.zscore(keys.RECENT, id)
    store.start_alone(id)
    assert (arrived(client), client.zscore(keys.RECENT, id)) == (1, came)


def test_what_an_earlier_run_has_left_is_removed_by_the_next(store: Store, client: redis.Redis) -> None:
    id = started(store, client)
    assert store.end_alone(id, 1, "failed", b'{"error":["internal_error","x"]}', bytes(784))
    client.hset(keys.job(id), "status", "queued")
    assert store.model_input(id)
    store.start_alone(id)
    assert (client.hget(keys.job(id), "digitq_found"), store.model_input(id)) == (None, None)


@pytest.mark.parametrize("before", ["started", "finished"])
def test_an_end_is_noted_before_or_after_rq_writes_it(before: str, store: Store, client: redis.Redis) -> None:
    id = started(store, client)
    client.hset(keys.job(id), "status", before)
    assert store.end_alone(id, 1, "finished", FOUND, bytes(784))
    client.hset(keys.job(id), mapping={"status": "finished", "ended_at": "2026-01-01T00:00:00.000000Z"})
    assert (store.fetch(id).digit, store.model_input(id)) == (7, bytes(784))
    assert 0 < client.ttl(keys.model_input(id)) <= store.settings.result_ttl_seconds
    assert not client.exists(keys.OPEN, keys.ACCEPTED, "digitq:bytes")


def test_an_end_without_an_input_leaves_none(store: Store, client: redis.Redis) -> None:
    id = started(store, client)
    store.end_alone(id, 1, "failed", b'{"error":["expired","x"]}')
    assert not client.exists(keys.model_input(id))


def test_the_picture_lives_as_long_as_its_result(store: Store, client: redis.Redis) -> None:
    id = started(store, client)
    client.expire(keys.image(id), 5)
    store.end_alone(id, 1, "finished", FOUND)
    assert client.ttl(keys.image(id)) > store.settings.result_ttl_seconds - 5


def test_the_end_is_told_as_it_will_be_read(store: Store, client: redis.Redis) -> None:
    id = started(store, client)
    client.hset(keys.job(id), mapping={"started_at": "2026-01-01T00:00:00.000000Z", "digitq_about": '{"filename":"a"}'})
    with hearing(client) as heard:
        store.end_alone(id, 1, "finished", FOUND)
        [told] = heard()
    client.hset(keys.job(id), mapping={"status": "finished", "ended_at": told["ended_at"]})
    assert Prediction.from_record(id, told) == store.fetch(id)
    assert json.loads(told["digitq_found"]) == json.loads(FOUND)
