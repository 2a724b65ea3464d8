"""Tests of reading from the store: positions in the queue, the load of the last seconds, and the owners of batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis
from rq.job import Job

from shared import keys
from shared.batches import Batches
from shared.chunks import Item, packed
from shared.connections import script_calls
from shared.connections.redis_failures import answered
from shared.errors import Expired, Lost, MemoryFull, NotFound
from shared.ids import new_id
from shared.operations import maintenance, predictions
from shared.store import Store
from shared.submission import Caller
from tests.answering import finish

QUEUE = "rq:queue:digitq"
SLOT_SECONDS = 5


def test_positions_are_exact_in_front_and_the_length_of_the_queue_behind(store: Store, client: redis.Redis) -> None:
    client.rpush(QUEUE, *range(999))
    near, far = store.submit(b"7").id, store.submit(b"7").id
    client.rpush(QUEUE, *range(500))
    assert store.fetch(near).queue_position == 999
    client.rpush(QUEUE, "one more")
    assert store.fetch(far).queue_position == 1502  # it stands at 1000
    assert store.fetch_all([near], ("status",)) == [[b"queued", b"1502"]]  # only a whole record is searched for


def test_who_was_cancelled_deep_in_a_queue_stands_before_nobody(store: Store, client: redis.Redis) -> None:
    first, gone, id = (store.submit(b"7").id for _ in range(3))
    client.sadd(keys.skipped("digitq"), gone)
    assert [store.fetch(one).queue_position for one in (first, id)] == [0, 1]


def test_what_runs_or_has_ended_has_no_position(store: Store) -> None:
    id = store.submit(b"7").id
    [claim] = store.claim("w", keys.QUEUES, 1, "n")
    assert store.fetch(id).queue_position is None
    store.release("w", [claim])
    assert store.fetch(id).queue_position == 0
    finish(store)
    assert store.fetch(id).queue_position is None


def test_the_load_is_of_the_last_ten_to_fifteen_seconds(store: Store, client: redis.Redis) -> None:
    slot = client.time()[0] // SLOT_SECONDS
    for ago, count in ((0, 1000), (1, 100), (2, 10), (3, 5000)):
        client.hset(f"digitq:flow:{slot - ago}", mapping={"arrived": count, "ended": 2 * count})
    load = store.load()
    if client.time()[0] // SLOT_SECONDS == slot:  # else it was read in the next
        assert 1110 / 15 <= load.arrivals <= 1110 / 10 and load.completions == pytest.approx(2 * load.arrivals)


def test_the_oldest_job_of_all_queues_is_told(store: Store, client: redis.Redis) -> None:
    for priority, day in (("high", 2), ("normal", 1), ("low", 3)):
        id = store.submit(b"7", priority=keys.Priority(priority)).id
        client.hset(keys.job(id), "created_at", f"2026-01-0{day}T00:00:00.000000Z")
    assert store.load().oldest == pytest.approx(store.time() - 1767225600, abs=5)


def test_a_batch_is_its_owners_alone(store: Store) -> None:
    batches = Batches(store)
    id = batches.submit(packed([Item("a.png", b"7")]), caller=Caller("alice")).id
    assert batches.fetch(id, "alice").id == batches.fetch(id).id == id
    for verb in (batches.fetch, batches.results, batches.cancel):
        with pytest.raises(NotFound):
            verb(id, "bob")
    assert batches.recent(10, owner="bob") == ([], None)


def test_of_a_long_registry_as_much_is_trimmed_at_once_as_is_said(store: Store, client: redis.Redis) -> None:
    client.zadd("rq:canceled:digitq", {f"old-{n}": 1 for n in range(25)})
    assert store.tell("registries", ttl=600, most=10, queues=keys.QUEUES) == 10
    assert client.zcard("rq:canceled:digitq") == 15


def test_a_job_that_rq_has_cancelled_is_deleted_only_if_nothing_else_ends_it(store: Store, client: redis.Redis) -> None:
    expiring, for_ever = store.submit(b"7").id, store.submit(b"7").id
    for id in (expiring, for_ever):
        Job.fetch(id, connection=client, serializer="json").cancel()
        client.zadd("rq:canceled:digitq", {id: 1})
    client.persist(keys.job(for_ever))
    client.expire(keys.job(expiring), 600)
    assert store.trim_registries(keys.QUEUES) == 2
    assert (client.exists(keys.job(expiring)), client.exists(keys.job(for_ever))) == (1, 0)


def test_a_prediction_is_its_owners_alone(store: Store) -> None:
    id = store.submit(b"7", caller=Caller("alice")).id
    assert store.fetch(id, "alice").id == store.fetch(id).id == id
    for verb in (store.fetch, store.cancel):
        with pytest.raises(NotFound):
            verb(id, "bob")
    store.cancel(id, "alice")


def test_reading_a_prediction_deleted_to_make_room_says_so(store: Store, client: redis.Redis) -> None:
    now = store.time()
    client.set(keys.EVICTED, f"{now - 5:.3f}")
    with pytest.raises(Expired, match="to make room"):
        store.fetch(new_id(now=now - 6))
    with pytest.raises(Lost):
        store.fetch(new_id(now=now - 4))


def test_entries_of_one_time_are_paged_without_a_gap_or_a_repetition(store: Store, client: redis.Redis) -> None:
    ids = [store.submit(b"7").id for _ in range(7)]
    client.zadd(keys.RECENT, dict.fromkeys(ids, 1_769_860_800_118_000.0))
    seen: list[str] = []
    cursor: str | None = None
    for _ in range(4):
        page, cursor = store.recent(2, cursor)
        seen += [one.id for one in page]
    assert sorted(seen) == sorted(ids) and cursor is None


def test_a_picture_is_read_in_pieces_until_it_is_gone(
    store: Store, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictions, "PIECE_BYTES", 4)
    id = store.submit(b"0123456789").id
    size, pieces = store.image_pieces(id)
    assert (size, list(pieces)) == (10, [b"0123", b"4567", b"89"])
    _, pieces = store.image_pieces(id)
    assert next(pieces) == b"0123"
    client.delete(keys.image(id))
    with pytest.raises(Expired):
        next(pieces)
    assert store.image_pieces(id)[0] == 0


def test_a_write_that_a_full_memory_refuses_is_repeated_once_room_was_made(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    freed, asked = [3, 0], list[int | None]()

    def refused_at_first() -> str:
        calls.append(1)
        if len(calls) < 2:
            raise MemoryFull()
        return "written"

    def make_room(size: int | None = None) -> int:
        asked.append(size)
        return freed.pop(0)

    monkeypatch.setattr(store, "make_room", make_room)
    calls: list[int] = []
    assert store.with_room(refused_at_first, 100) == "written"
    calls = []
    with pytest.raises(MemoryFull):
        store.with_room(refused_at_first, 100)
    assert (calls, asked) == ([1], [100, 100])


def test_after_a_full_memory_a_client_comes_back_in_two_seconds() -> None:
    for text, seconds in (("OOM command not allowed", 2), ("LOADING Redis is loading", 1), ("BUSY Redis is busy", 1)):
        error = answered(text)
        assert error and error.extensions["retry_after_seconds"] == seconds
    assert answered("WRONGTYPE Operation against a key") is answered("BUSYGROUP exists") is None


def test_what_workers_say_of_their_model_expires(store: Store, client: redis.Redis) -> None:
    store.refuse("its card does not match")
    assert store.refusal() == "its card does not match"
    assert client.ttl(keys.REFUSED) == pytest.approx(600, abs=2)


def test_a_long_registry_is_trimmed_in_steps_for_a_second_at_most(
    store: Store, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "TRIMMED_AT_ONCE", 10)
    client.zadd("rq:canceled:digitq", {f"old-{n}": 1 for n in range(45)})
    monkeypatch.setattr(maintenance, "TRIM_SECONDS", -1.0)
    assert store.trim_registries(keys.QUEUES) == 10
    monkeypatch.setattr(maintenance, "TRIM_SECONDS", 60.0)
    assert store.trim_registries(keys.QUEUES) == 35


def test_memory_is_what_counts_toward_its_limit_and_claims_are_open(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        store.submit(b"7")
    store.claim("w", keys.QUEUES, 1, "n")
    pipeline = store.client.pipeline

    def answering(**options: Any) -> Any:
        made = pipeline(**options)
        execute: Callable[[], list[Any]] = made.execute
        info = {"used_memory": 1000, "mem_not_counted_for_evict": 300, "maxmemory": 5000}
        made.execute = lambda: [info, *execute()[1:]]
        return made

    monkeypatch.setattr(store.client, "pipeline", answering)
    memory = store.memory()
    assert (memory.used, memory.limit, memory.open) == (700, 5000, 3)


def test_scripts_that_redis_has_forgotten_are_learnt_again(store: Store, client: redis.Redis) -> None:
    store.submit(b"7")
    client.script_flush()
    [claim] = store.claim("w", keys.QUEUES, 1, "n")
    client.script_flush()
    store.release("w", [claim])


def test_a_call_on_a_broken_connection_is_repeated_once_on_a_fresh_one(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange, breaks = script_calls._exchange, [1]

    def broken_at_first(connection: Any, calls: Any) -> Any:
        if breaks:
            breaks.pop()
            raise redis.ConnectionError
        return exchange(connection, calls)

    monkeypatch.setattr(script_calls, "_exchange", broken_at_first)
    id = store.submit(b"7").id
    assert [one.id for one in store.claim("w", keys.QUEUES, 1, "n")] == [id]
    breaks.extend([1, 1])
    with pytest.raises(redis.ConnectionError):
        script_calls.call_scripts(store.client, [])
