"""What readers are told: positions in the queue, the load of the last seconds, and whose a batch is."""

from __future__ import annotations

import pytest
import redis
from rq.job import Job

from shared import keys
from shared.batches import Batches
from shared.chunks import Item, packed
from shared.errors import NotFound
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
    for ago, count in ((0, 1000), (1, 100), (2, 10), (4, 5000)):
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
