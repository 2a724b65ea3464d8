"""Tests of admission: limits of pictures, bytes and rate, and the time after which a refused client may retry."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import redis
from rq import Queue as RQQueue

from shared import keys
from shared.batches import Batches
from shared.chunks import Chunk, Item, packed, raw
from shared.errors import QueueFull, RateLimited
from shared.ids import new_id
from shared.prediction import State
from shared.store import Store
from shared.submission import Caller, Submission
from tests.answering import finish

TTL = 600
BYTES = "digitq:bytes"
SLOT_SECONDS = 5


def changed(store: Store, **changes: Any) -> Store:
    return Store(store.client, replace(store.settings, result_ttl_seconds=TTL, **changes))


@contextmanager
def refused_for(low: float, high: float) -> Iterator[None]:
    with pytest.raises((QueueFull, RateLimited)) as caught:
        yield
    assert low <= caught.value.extensions["retry_after_seconds"] <= high


def ended(client: redis.Redis, count: int, slots_ago: int = 0) -> None:
    """Record that `count` pictures ended in a slot of five seconds, `slots_ago` slots before the current one."""
    slot = client.time()[0] // SLOT_SECONDS - slots_ago
    client.hset(f"digitq:flow:{slot}", "ended", count)


def pictures(*images: bytes) -> list[Chunk]:
    return list(packed(Item("a.png", image) for image in images))


def answers(store: Store, *submissions: Submission) -> list[bytes]:
    return [answer[0] for answer in store.submit_all(submissions)]


# ---------------------------------------------------------------------- how many


def test_the_last_place_is_taken_and_the_next_picture_is_refused(store: Store) -> None:
    small = changed(store, queue_max_length=3)
    batch = [Submission(new_id(), b"7") for _ in range(4)]
    assert answers(small, *batch) == [b"accepted"] * 3 + [b"full"]


def test_a_picture_that_is_here_already_is_answered_on_a_full_queue(store: Store) -> None:
    small, id = changed(store, queue_max_length=1), new_id()
    small.submit(b"7", id=id, idempotency_key="k")
    assert small.submit(b"7", id=id).id == id
    assert small.submit(b"7", idempotency_key="k").id == id


def test_a_batch_fits_to_the_last_place_and_not_beyond(store: Store) -> None:
    small = changed(store, queue_max_length=5)
    small.submit(b"7")
    with pytest.raises(QueueFull, match=r"^1 pictures"):
        Batches(small).submit(pictures(*[b"7"] * 5))
    assert Batches(small).submit(pictures(*[b"7"] * 4)).total == 4


def test_the_pictures_of_waiting_chunks_count_for_the_next_batch(store: Store) -> None:
    small = changed(store, queue_max_length=5)
    Batches(small).submit(pictures(*[b"7"] * 3))
    with pytest.raises(QueueFull, match=r"^3 pictures"):
        Batches(small).submit(pictures(*[b"7"] * 3))
    assert Batches(small).submit(pictures(*[b"7"] * 2)).total == 2
    with pytest.raises(QueueFull, match=r"^5 pictures"):
        Batches(small).submit(pictures(b"7"))


def test_a_count_of_chunks_that_drifted_starts_afresh_when_nothing_waits(store: Store, client: redis.Redis) -> None:
    small = changed(store, queue_max_length=5)
    client.set(keys.BULK, 4)
    Batches(small).submit(pictures(*[b"7"] * 3))
    assert (client.get(keys.BULK), client.ttl(keys.BULK)) == (b"2", pytest.approx(2 * TTL, abs=2))


def test_where_no_worker_runs_a_full_queue_says_half_a_minute(store: Store, client: redis.Redis) -> None:
    small = changed(store, queue_max_length=1)
    small.submit(b"7")
    ended(client, 1000, slots_ago=3)  # too long ago to tell how fast it is
    with refused_for(30, 30):
        small.submit(b"7")


@pytest.mark.parametrize("slots_ago", [0, 1, 2])
def test_a_full_queue_says_when_a_twentieth_of_it_will_be_free(
    slots_ago: int, store: Store, client: redis.Redis
) -> None:
    full = changed(store, queue_max_length=1000)
    client.rpush("rq:queue:digitq", *range(1000))
    ended(client, 100, slots_ago)  # within 10 to 15 seconds
    with refused_for(5, 8):  # for 51 pictures
        full.submit(b"7")
    with refused_for(1, 15):
        Batches(full).submit([raw(bytes(100 * 784), 28, 28)])
    client.rpush("rq:queue:digitq", *range(500))
    with refused_for(55, 60):
        full.submit(b"7")


def test_a_queue_for_one_says_when_that_one_will_have_ended(store: Store, client: redis.Redis) -> None:
    small = changed(store, queue_max_length=1)
    small.submit(b"7")
    ended(client, 1)  # within 10 to 15 seconds
    with refused_for(11, 16):
        small.submit(b"7")


def test_nobody_is_told_to_wait_for_less_than_a_second_or_more_than_a_minute(store: Store, client: redis.Redis) -> None:
    full = changed(store, queue_max_length=1000)
    client.rpush("rq:queue:digitq", *range(1000))
    for count, seconds in ((1_000_000, 1), (1, 60)):
        ended(client, count)
        with refused_for(seconds, seconds):
            full.submit(b"7")


# ---------------------------------------------------------------------- how many bytes


def test_the_last_byte_is_taken_and_the_next_is_refused(store: Store, client: redis.Redis) -> None:
    small = changed(store, queue_max_bytes=100)
    small.submit(bytes(60))
    ended(client, 10)
    with pytest.raises(QueueFull, match=r"^60 bytes") as caught:
        small.submit(bytes(41))
    assert caught.value.extensions["limit"] == 100
    with pytest.raises(QueueFull, match=r"^60 bytes"):
        Batches(small).submit(pictures(bytes(41)))
    assert small.submit(bytes(40)).state is State.QUEUED

    def unread() -> Iterator[Chunk]:
        raise AssertionError
        yield

    with pytest.raises(QueueFull, match=r"^100 bytes"):
        Batches(small).submit(unread(), 1)


def test_the_wait_for_bytes_is_for_as_many_pictures_as_have_them(store: Store, client: redis.Redis) -> None:
    small = changed(store, queue_max_bytes=1000)
    for _ in range(10):
        small.submit(bytes(100))
    ended(client, 10)
    with refused_for(5, 8):  # of five pictures
        small.submit(bytes(500))


def test_an_upload_larger_than_the_limit_is_taken_where_nothing_waits(store: Store) -> None:
    small = changed(store, queue_max_bytes=10)
    assert answers(small, Submission(new_id(), bytes(60)), Submission(new_id(), b"7")) == [b"accepted", b"heavy"]


def test_bytes_count_until_a_picture_has_ended_and_no_longer(store: Store, client: redis.Redis) -> None:
    small = changed(store, queue_max_bytes=100)
    small.submit(bytes(50) + b"7")
    small.submit(bytes(40) + b"7")
    claims = small.claim("w", keys.QUEUES, 1, "n")
    with pytest.raises(QueueFull, match=r"^92 bytes"):
        small.submit(bytes(50))
    client.delete("rq:queue:digitq")
    with pytest.raises(QueueFull, match=r"^92 bytes"):  # what is claimed keeps the count
        small.submit(bytes(50))
    small.release("w", claims)
    finish(small)
    assert client.hvals(BYTES) == [b"41"]  # of the one that was deleted


def test_a_count_of_bytes_that_drifted_starts_afresh_when_nothing_waits(store: Store, client: redis.Redis) -> None:
    small = changed(store, queue_max_bytes=100)
    small.submit(bytes(90))
    RQQueue("digitq", connection=client, serializer="json").empty()
    small.submit(bytes(70))
    assert client.hvals(BYTES) == [b"70"]


def test_bytes_are_counted_in_slots_that_expire_with_the_last_picture_in_them(
    store: Store, client: redis.Redis
) -> None:
    one = changed(store)
    one.submit(bytes(90))
    client.hset(BYTES, mapping={str(int(one.time()) - 1): 1_000_000, str(int(one.time()) + 60): 5})
    one.submit(b"7")
    counted = {int(slot): int(count) for slot, count in client.hgetall(BYTES).items()}
    new = max(counted)
    assert sum(counted.values()) == 96  # without that of the slot that has expired
    assert 2 * TTL < new - one.time() <= 2 * TTL + TTL / 4 and new % (TTL / 4) == 0
    client.delete(BYTES)
    one.submit(bytes(90))
    assert client.ttl(BYTES) == pytest.approx(3 * TTL, abs=2)


def test_the_bytes_of_an_expired_slot_do_not_count(store: Store, client: redis.Redis) -> None:
    small = changed(store, queue_max_bytes=100)
    small.submit(b"7")
    client.hset(BYTES, str(int(small.time()) - 1), 1_000_000)
    assert small.submit(bytes(90)).state is State.QUEUED


# ---------------------------------------------------------------------- how often


def test_a_client_may_submit_as_many_as_its_bucket_holds_and_then_as_it_fills(
    store: Store, client: redis.Redis
) -> None:
    limited = changed(store, rate_limit="10/100 seconds")
    mine = [Submission(new_id(), b"7", caller=Caller(counted_as="me")) for _ in range(11)]
    assert answers(limited, *mine) == [b"accepted"] * 10 + [b"limited"]
    assert client.pttl("digitq:rate:me") == pytest.approx(100_000, abs=2000)
    with refused_for(9, 10):
        limited.submit(b"7", caller=Caller(counted_as="me"))
    assert limited.submit(b"7", caller=Caller(counted_as="you")).state is State.QUEUED
    nobodys = [Submission(new_id(), b"7") for _ in range(11)]  # of a command line at the server
    assert answers(limited, *nobodys) == [b"accepted"] * 11
    client.set("digitq:rate:me", limited.time() + 89)
    assert limited.submit(b"7", caller=Caller(counted_as="me")).state is State.QUEUED


def test_a_bucket_that_is_long_full_holds_no_more_than_it_can(store: Store, client: redis.Redis) -> None:
    limited = changed(store, rate_limit="2/100 seconds")
    client.set("digitq:rate:me", limited.time() - 10_000)
    mine = [Submission(new_id(), b"7", caller=Caller(counted_as="me")) for _ in range(3)]
    assert answers(limited, *mine) == [b"accepted", b"accepted", b"limited"]


def test_what_is_refused_takes_nothing_from_the_bucket(store: Store, client: redis.Redis) -> None:
    limited = changed(store, rate_limit="10/100 seconds", queue_max_length=1)
    limited.submit(b"7")
    with pytest.raises(QueueFull):
        limited.submit(b"7", caller=Caller(counted_as="me"))
    assert not client.exists("digitq:rate:me")


def test_a_batch_larger_than_the_bucket_is_taken_when_it_is_full_and_owed(store: Store, client: redis.Redis) -> None:
    limited, me = changed(store, rate_limit="10/100 seconds"), Caller(counted_as="me")
    assert Batches(limited).submit(pictures(*[b"7"] * 20), caller=me).total == 20
    assert client.pttl("digitq:rate:me") == pytest.approx(200_000, abs=2000)
    with refused_for(109, 110):
        limited.submit(b"7", caller=me)
    with refused_for(199, 200):
        Batches(limited).submit(pictures(*[b"7"] * 20), caller=me)


def test_a_batch_that_only_asks_takes_nothing(store: Store, client: redis.Redis) -> None:
    limited, me = changed(store, rate_limit="10/100 seconds"), Caller(counted_as="me")

    def nothing() -> Iterator[Chunk]:
        assert client.keys() == []
        yield from pictures(b"7")

    assert Batches(limited).submit(nothing(), 1, caller=me).total == 1
    assert client.pttl("digitq:rate:me") == pytest.approx(10_000, abs=2000)
