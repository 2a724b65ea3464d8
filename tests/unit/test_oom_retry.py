"""The client that RQ uses: fences around its transactions. A full Redis is that of test_full.py."""

from __future__ import annotations

import threading

import pytest
import redis

from worker.queue.oom_retry import Fenced, OomRetryRedis

BROKEN = {"queue": "digitq", "member": "nobody:e", "margin": 1}


@pytest.fixture
def retrying(client: redis.Redis) -> OomRetryRedis:
    return OomRetryRedis(client)


def test_a_transaction_behind_a_broken_fence_writes_nothing(retrying: OomRetryRedis, client: redis.Redis) -> None:
    with retrying.fenced(**BROKEN), retrying.pipeline() as pipeline, pytest.raises(Fenced):
        pipeline.set("a", 1).execute()
    assert client.get("a") is None


@pytest.mark.parametrize(("left", "holds"), [(30, True), (0.5, False), (-1, False)])
def test_a_lease_holds_while_it_is_valid_for_its_margin(
    left: float, holds: bool, retrying: OomRetryRedis, client: redis.Redis
) -> None:
    seconds, micros = client.time()
    client.zadd("rq:wip:digitq", {"id:e": seconds + micros / 1e6 + left})
    try:
        with retrying.fenced(queue="digitq", member="id:e", margin=1), retrying.pipeline() as pipeline:
            assert pipeline.set("a", 1).hset("h", "x", "1").hgetall("h").execute() == [True, 1, {b"x": b"1"}]
    except Fenced:
        assert not holds
    assert (client.get("a") is not None) == holds


@pytest.mark.parametrize(("holder", "holds"), [(None, True), (b"me", True), (b"another", False)])
def test_recovery_writes_unless_another_has_the_turn(
    holder: bytes | None, holds: bool, retrying: OomRetryRedis, client: redis.Redis
) -> None:
    if holder:
        client.set("digitq:recovery", holder)
    try:
        with retrying.fenced(turn="me"), retrying.pipeline() as pipeline:
            pipeline.set("a", 1).execute()
    except Fenced:
        assert not holds
    assert (client.get("a") is not None) == holds


def test_a_fence_is_around_one_transaction_of_one_thread(retrying: OomRetryRedis, client: redis.Redis) -> None:
    def elsewhere() -> None:
        with retrying.pipeline() as pipeline:
            pipeline.set("elsewhere", 1).execute()

    with retrying.fenced(**BROKEN):
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join(10)
        with retrying.pipeline() as pipeline, pytest.raises(Fenced):
            pipeline.set("first", 1).execute()
        with retrying.pipeline() as pipeline:
            pipeline.set("second", 1).execute()
    with retrying.fenced(**BROKEN):
        pass
    with retrying.pipeline() as pipeline:
        pipeline.set("afterwards", 1).execute()
    assert client.mget("elsewhere", "first", "second", "afterwards") == [b"1", None, b"1", b"1"]


def test_one_command_that_fails_behind_a_fence_is_raised_and_stops_no_other(
    retrying: OomRetryRedis, client: redis.Redis
) -> None:
    client.set("text", "no list")
    with (
        retrying.fenced(turn="me"),
        retrying.pipeline() as pipeline,
        pytest.raises(redis.ResponseError, match="WRONGTYPE"),
    ):
        pipeline.set("a", 1).lpush("text", "x").set("b", 2).execute()
    assert client.mget("a", "b") == [b"1", b"2"]


def test_watched_keys_are_watched_behind_a_fence_too(retrying: OomRetryRedis, client: redis.Redis) -> None:
    client.zadd("rq:wip:digitq", {"id:e": "+inf"})
    with retrying.fenced(queue="digitq", member="id:e", margin=1), retrying.pipeline() as pipeline:
        pipeline.watch("seen")
        pipeline.multi()
        client.set("seen", "changed")
        with pytest.raises(redis.WatchError):
            pipeline.set("a", 1).execute()
    assert client.get("a") is None
