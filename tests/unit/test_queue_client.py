"""Tests of the clients straight on Redis: what they refuse, what they repeat, and what their errors say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import redis

from producer import NEVER, Queue, Retry
from producer.client import redis_operations
from shared import keys
from shared.batches import Batches
from shared.connections.redis_failures import NOBODY
from shared.errors import BadRequest, NotFound, QueueFull, RedisUnavailable, TooLarge, UnsupportedType
from shared.prediction import State
from shared.settings import Settings
from shared.store import Store
from tests.pictures import seven


@pytest.fixture
def queue(store: Store, client: redis.Redis) -> Iterator[Queue]:
    with Queue(settings=replace(store.settings, max_upload_bytes=5000), retry=Retry(first=0, longest=0)) as one:
        yield one


def test_the_address_that_is_given_comes_before_that_of_the_settings(store: Store) -> None:
    here, elsewhere = store.settings.redis_url, replace(store.settings, redis_url="redis://nowhere:1", web_threads=3)
    with Queue(here, elsewhere) as one:
        assert (one.settings.redis_url, one.settings.web_threads) == (here, 3)
    with Queue(settings=store.settings) as one:
        assert one.settings is store.settings


def test_what_cannot_be_read_is_refused_before_it_is_sent(queue: Queue, client: redis.Redis) -> None:
    for image, error in ((b"no picture", UnsupportedType), (seven() + bytes(5000), TooLarge)):
        with pytest.raises(error):
            queue.submit(image)
    for submit in (queue.submit, queue.submit_batch):
        with pytest.raises(BadRequest, match="every number in it"):
            submit(seven(), read="letters")  # type: ignore[operator]
    assert client.keys("rq:job:*") == []


def test_a_name_is_cleaned_and_a_key_makes_one_picture_of_two(queue: Queue) -> None:
    one = queue.submit(seven(), "C:\\scans\\7.png", idempotency_key="k")
    assert one.filename == "7.png" and queue.submit(seven(), idempotency_key="k").id == one.id
    assert queue.submit(seven()).id != queue.submit(seven()).id
    batch = queue.submit_batch([seven()], idempotency_key="b")
    assert queue.submit_batch([seven()], idempotency_key="b").id == batch.id
    assert queue.submit_batch([seven()]).id != queue.submit_batch([seven()]).id


def test_a_batch_is_low_and_a_picture_is_normal_unless_said_otherwise(queue: Queue, client: redis.Redis) -> None:
    queue.submit(seven())
    queue.submit_batch([seven()])
    queue.submit(seven(), priority="high")
    assert [client.llen(keys.queue(name)) for name in keys.QUEUES] == [1, 1, 1]


def test_a_redis_that_is_away_for_a_moment_is_asked_again_and_one_that_stays_away_is_named(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, calls, away = queue.submit_batch([seven()]), list[str](), [True, True]
    results = Batches.results

    def results_later(batches: Batches, id: str) -> Iterator[dict[str, object]]:
        calls.append(id)
        if away:
            away.pop()
            raise RedisUnavailable(NOBODY)
        return results(batches, id)

    monkeypatch.setattr(Batches, "results", results_later)
    assert len(queue.results(batch.id)) == 1 and len(calls) == 3
    away[:] = [True] * 9
    queue._operations._retry = NEVER
    with pytest.raises(RedisUnavailable, match=r"redis\.sock. Is it running"):
        queue.results(batch.id)


@pytest.mark.parametrize("verb", ["cancel", "cancel_batch"])
def test_a_cancel_is_not_repeated_and_its_error_names_the_address(
    verb: str, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def away(_: object, id: str) -> None:
        calls.append(id)
        raise RedisUnavailable(NOBODY)

    for kind in (Store, Batches):
        monkeypatch.setattr(kind, "cancel", away)
    with pytest.raises(RedisUnavailable, match=r"redis\.sock. Is it running"):
        getattr(queue, verb)("x")
    assert calls == ["x"]


def test_a_batch_is_read_until_it_ends_or_the_wait_is_over(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = queue.submit_batch([seven()])
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            queue.cancel_batch(batch.id)

    monkeypatch.setattr("producer.client.blocking.time.sleep", sleep)
    assert queue.get_batch(batch.id, wait=60).state.value == "cancelled"
    assert len(pauses) == 3
    with pytest.raises(NotFound):
        queue.cancel_batch(batch.id)
        queue.get_batch(batch.id)


def test_without_a_wait_a_prediction_is_read_once(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    id = queue.submit(seven()).id
    monkeypatch.setattr(queue._operations, "_read_once", None)
    assert queue.get(id).state is State.QUEUED


def test_a_full_queue_is_an_error_and_a_process_has_many_connections(store: Store, client: redis.Redis) -> None:
    with Queue(settings=replace(store.settings, queue_max_length=1), retry=NEVER) as one:
        one.submit(seven())
        with pytest.raises(QueueFull):
            one.submit(seven())
        pool = one._operations._store.client.connection_pool
        assert pool.max_connections == redis_operations.CONNECTIONS > Settings().web_threads
