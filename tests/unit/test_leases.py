"""Leases: what they fence, what goes back to its queue, heartbeats, and whose turn it is to recover."""

from __future__ import annotations

from dataclasses import replace

import pytest
import redis

from shared import keys
from shared.batches import Batches
from shared.chunk_runs import ChunkRuns, Held
from shared.chunks import Item, packed
from shared.claims import Claim, Finish
from shared.prediction import State
from shared.store import Store
from tests.answering import finish
from tests.fakes import outcome

WIP, QUEUE = "rq:wip:digitq", "rq:queue:digitq"
LONG_AGO = "2026-01-01T00:00:00.000000Z"


def claim(store: Store, limit: int = 64, worker: str = "w") -> list[Claim]:
    return store.claim(worker, keys.QUEUES, limit, "n")


def leave(client: redis.Redis, store: Store, one: Claim, seconds: float) -> None:
    """Set the lease on a claim to expire in `seconds` from now."""
    client.zadd(f"rq:wip:{one.queue}", {f"{one.id}:{one.execution}": store.time() + seconds})


# ---------------------------------------------------------------------- the fence


@pytest.mark.parametrize(
    ("lease", "left", "accepted"),
    [(60, 1.5, True), (60, 0.9, False), (2, 0.7, True), (2, 0.3, False)],
)
def test_an_end_keeps_a_second_or_a_fifth_of_its_lease_as_margin(
    lease: float, left: float, accepted: bool, store: Store, client: redis.Redis
) -> None:
    one = Store(client, replace(store.settings, lease_seconds=lease))
    id = one.submit(b"7").id
    chunk = Batches(one).submit(packed([Item("a.png", b"7")])).id
    [picture], [part] = claim(one), claim(one)
    for held in (picture, part):
        leave(client, one, held, left)
    assert one.finish("w", [Finish(picture, "e30=", "", outcome(7))])[0] == ([] if accepted else [id])
    rows = {0: (7, 0.9, "accept", None, [])}
    assert ChunkRuns(one).note(f"{chunk}-0", "1", rows, held=Held("w", part)) is accepted


def test_of_a_batch_each_end_has_a_fence_of_its_own(store: Store, client: redis.Redis) -> None:
    ids = [store.submit(b"7", priority=keys.Priority(p)).id for p in ("high", "normal", "high", "normal")]
    claims = {one.id: one for one in claim(store)}
    leave(client, store, claims[ids[1]], -1)
    leave(client, store, claims[ids[2]], -1)
    ended = store.finish("w", [Finish(claims[id], "e30=", "", outcome(7)) for id in ids])
    assert ended == ([ids[1], ids[2]], [])
    assert [store.fetch(id).state for id in ids] == [State.SUCCEEDED, State.RUNNING, State.RUNNING, State.SUCCEEDED]


# ---------------------------------------------------------------------- what goes back


def test_claims_that_are_released_stand_in_front_in_their_order_as_if_never_claimed(
    store: Store, client: redis.Redis
) -> None:
    ids = [store.submit(b"7").id for _ in range(4)]
    claims = claim(store, 2)
    store.release("w", claims)
    assert client.lrange(QUEUE, 0, -1) == [id.encode() for id in ids]
    assert not client.exists(WIP)
    assert (store.fetch(ids[0]).state, store.fetch(ids[0]).attempt) == (State.QUEUED, 0)
    assert client.hmget(keys.job(ids[0]), "started_at", "worker_name") == [b"", b""]
    assert [(one.id, one.attempt) for one in claim(store)] == [(id, 1) for id in ids]


def test_what_may_have_taken_a_worker_down_is_still_suspect_after_a_release(store: Store, client: redis.Redis) -> None:
    id = store.submit(b"7").id
    client.hset(keys.job(id), mapping={"started_at": LONG_AGO, "digitq_run": "1:x"})
    claims = claim(store)
    store.release("w", claims)
    assert client.hget(keys.job(id), "started_at")
    assert [one.attempt for one in claim(store)] == [2]


def test_what_is_held_no_longer_is_not_released(store: Store, client: redis.Redis) -> None:
    late, deleted = (store.submit(b"7").id for _ in range(2))
    claims = claim(store)
    leave(client, store, claims[0], -1)
    client.delete(keys.job(deleted))
    store.release("w", claims)
    assert client.llen(QUEUE) == 0
    assert store.fetch(late).state is State.RUNNING


def test_a_chunk_that_is_released_is_nobodys_suspect(store: Store, client: redis.Redis) -> None:
    runs = ChunkRuns(store)
    id = f"{Batches(store).submit(packed([Item('a.png', b'7')] * 3)).id}-0"
    claims = claim(store)
    assert runs.note(id, "1", {}, suspect="2")
    store.release("w", claims)
    assert client.hmget(keys.results(id), "state", "attempt", "suspect") == [b"queued", b"0", None]
    [again] = claim(store)
    progress = runs.progress(id, "1")
    assert (again.attempt, progress.deaths, progress.stalls) == (1, {}, 0)


def test_a_lease_that_ran_out_before_its_job_was_started_gives_the_job_back_once(
    store: Store, client: redis.Redis
) -> None:
    id = store.submit(b"7").id
    [one] = claim(store)
    client.hset(keys.job(id), "status", "queued")  # the claim ended with an error
    leave(client, store, one, -1)
    assert store.sort_out_leases(keys.QUEUES) == 1
    assert (client.lrange(QUEUE, 0, -1), client.exists(WIP)) == ([id.encode()], 0)
    leave(client, store, one, -1)
    store.sort_out_leases(keys.QUEUES)
    assert (client.lrange(QUEUE, 0, -1), client.exists(WIP)) == ([id.encode()], 0)


def test_leases_that_nobody_needs_are_dropped_and_the_others_stay(store: Store, client: redis.Redis) -> None:
    ended, running, taken, young = (store.submit(b"7").id for _ in range(4))
    claims = {one.id: one for one in claim(store)}
    for id in (ended, running, taken):
        leave(client, store, claims[id], -1)
    leave(client, store, claims[young], 60)
    client.hset(keys.job(ended), "status", "finished")
    client.hset(keys.job(taken), "digitq_run", "2:other")
    client.zadd(WIP, {f"{taken}:other": store.time() + 60, "of-nobody": 1})
    assert store.sort_out_leases(keys.QUEUES) == 0
    left = {member.decode() for member in client.zrange(WIP, 0, -1)}
    assert left == {f"{id}:{claims[id].execution}" for id in (running, young)} | {f"{taken}:other"}
    assert client.llen(QUEUE) == 0


# ---------------------------------------------------------------------- heartbeats


def test_a_heartbeat_renews_what_is_held_and_says_who_lives(store: Store, client: redis.Redis) -> None:
    for _ in range(2):
        store.submit(b"7")
    lost, held = claim(store)
    leave(client, store, lost, -1)
    leave(client, store, held, 0.5)
    assert store.renew("w", [lost, held], '{"version":"m"}') == 1
    now = store.time()
    scores = [client.zscore(WIP, f"{one.id}:{one.execution}") for one in (lost, held)]
    assert scores == [pytest.approx(now - 1, abs=0.5), pytest.approx(now + 2, abs=0.5)]
    assert client.zscore(keys.WORKERS, "w") == pytest.approx(now + 15, abs=1)
    assert [client.ttl(key) for key in (keys.WORKERS, keys.MODEL)] == [pytest.approx(3600, abs=2)] * 2
    assert store.workers() == ["w"]


def test_a_heartbeat_without_a_card_leaves_the_last_one(store: Store) -> None:
    store.renew("w", [], '{"version":"m"}')
    store.renew("other", [])
    assert store.model_card() == {"version": "m"}


def test_a_worker_that_is_late_or_has_left_is_not_counted(store: Store, client: redis.Redis) -> None:
    client.zadd(keys.WORKERS, {"late": store.time() - 0.1, "here": store.time() + 60})
    assert store.workers() == ["here"]
    assert len(store.load().workers) == 1
    store.leave("here")
    assert store.workers() == []


# ---------------------------------------------------------------------- recovery


def test_one_worker_at_a_time_recovers_and_for_three_seconds_at_most(store: Store, client: redis.Redis) -> None:
    assert store.recovery_turn("a") and not store.recovery_turn("b") and not store.recovery_turn("a")
    assert 2 <= client.ttl(keys.RECOVERY) <= 3
    store.end_recovery_turn("b")
    assert not store.recovery_turn("b")
    store.end_recovery_turn("a")
    assert store.recovery_turn("b")


def test_a_job_that_has_ended_is_not_claimed_from_a_queue(store: Store, client: redis.Redis) -> None:
    id = store.submit(b"7").id
    finish(store)
    client.lpush(QUEUE, id)
    assert claim(store) == []
    assert store.fetch(id).state is State.SUCCEEDED
