"""Callbacks that are due: under a lease, a bounded number of times, and fair to each party."""

from __future__ import annotations

import pytest
import redis
from rq.job import Job

from shared import keys
from shared.operations.webhooks import DueWebhook
from shared.prediction import State
from shared.record import state_of
from shared.store import Store
from shared.submission import Caller
from tests.answering import finish
from tests.receiver import fate

URL = {"callback_url": "https://example.org/hook"}


def ended(store: Store, owner: str = "", url: str = URL["callback_url"]) -> str:
    id = store.submit(b"7", notes={"callback_url": url}, caller=Caller(owner)).id
    finish(store)
    return id


def take(store: Store, lease: float = 60, most: int = 8, busy: tuple[str, ...] = ()) -> DueWebhook:
    due = store.due_webhook(lease, most, busy)
    assert due
    return due


def due_in(store: Store, client: redis.Redis, id: str) -> float:
    return float(client.zscore(keys.WEBHOOKS, id)) - store.time()  # type: ignore[arg-type]


# ---------------------------------------------------------------------- tries


def test_a_callback_is_taken_under_a_lease_and_is_due_again_after_it(store: Store, client: redis.Redis) -> None:
    id = ended(store, "me")
    due = take(store)
    assert (due.id, due.tries, due.end, due.url, due.party) == (id, 1, 1, URL["callback_url"], "key:me")
    assert state_of(due.record)[0] is State.SUCCEEDED
    assert due_in(store, client, id) == pytest.approx(60, abs=1)
    assert store.due_webhook(60, 8) is None
    client.zadd(keys.WEBHOOKS, {id: store.time() - 0.01})
    assert take(store).tries == 2


def test_after_the_last_try_a_callback_is_given_up(store: Store, client: redis.Redis) -> None:
    id = ended(store)
    assert [take(store, 0, most=2).tries for _ in range(2)] == [1, 2]
    assert store.due_webhook(0, 2) is None
    assert fate(client, id)[0] == "given_up"
    assert not client.exists(keys.WEBHOOKS)


def test_a_failure_is_tried_again_after_its_delay(store: Store, client: redis.Redis) -> None:
    id = ended(store)
    store.end_webhook(take(store), "failing", 300)
    assert fate(client, id) == ("failing", 1)
    assert due_in(store, client, id) == pytest.approx(300, abs=1)


@pytest.mark.parametrize("outcome", ["delivered", "gone", "given_up"])
def test_an_outcome_without_a_delay_is_the_last(outcome: str, store: Store, client: redis.Redis) -> None:
    id = ended(store)
    store.end_webhook(take(store), outcome)
    assert fate(client, id) == (outcome, 1)
    assert not client.exists(keys.WEBHOOKS)


def test_a_late_failure_changes_nothing_and_a_late_success_counts(store: Store, client: redis.Redis) -> None:
    id = ended(store)
    late, second = take(store, 0), take(store, 60)
    store.end_webhook(late, "gone")
    assert (fate(client, id), second.tries) == (("", 2), 2)
    assert due_in(store, client, id) > 50
    store.end_webhook(late, "delivered")
    assert fate(client, id) == ("delivered", 2)
    assert not client.exists(keys.WEBHOOKS)


def test_a_failure_after_somebody_elses_success_is_not_tried_again(store: Store, client: redis.Redis) -> None:
    id = ended(store)
    due = take(store)
    client.zrem(keys.WEBHOOKS, id)
    store.end_webhook(due, "failing", 5)
    assert not client.exists(keys.WEBHOOKS)


def test_of_a_record_that_is_gone_no_outcome_is_noted(store: Store, client: redis.Redis) -> None:
    id = ended(store)
    due = take(store)
    client.delete(keys.callback(id))
    store.end_webhook(due, "delivered")
    assert not client.exists(keys.callback(id), keys.WEBHOOKS)


# ---------------------------------------------------------------------- what is told


def test_what_has_been_put_back_is_not_told_before_it_ends_again(store: Store, client: redis.Redis) -> None:
    first, second = ended(store), ended(store)
    client.hset(keys.job(first), "status", "started")
    assert take(store).id == second
    assert due_in(store, client, first) == pytest.approx(1, abs=0.5)
    assert fate(client, first)[1] == 0


def test_of_a_job_that_was_deleted_it_is_told_that_it_is_lost(store: Store, client: redis.Redis) -> None:
    id = store.submit(b"7", notes=URL).id
    Job.fetch(id, connection=client, serializer="json").delete()
    store.sweep(0)
    assert state_of(take(store).record)[1]["error"][0] == "lost"


@pytest.mark.parametrize("gone", [keys.job, keys.callback])
def test_what_has_expired_meanwhile_is_dropped(gone: object, store: Store, client: redis.Redis) -> None:
    assert callable(gone)
    first, second = ended(store), ended(store)
    client.delete(gone(first))
    assert take(store).id == second
    assert client.zrange(keys.WEBHOOKS, 0, -1) == [second.encode()]


# ---------------------------------------------------------------------- parties


def test_a_busy_party_waits_apart_and_the_one_served_longest_ago_is_next(store: Store, client: redis.Redis) -> None:
    busy = ("key:a", "key:b")
    of_a, b1 = {ended(store, "a"), ended(store, "a")}, ended(store, "b")
    c1 = ended(store, "c")
    assert take(store, busy=busy).id == c1
    assert {id.decode() for id in client.zrange("digitq:parked:key:a", 0, -1)} == of_a
    assert client.zrange(keys.WEBHOOKS, 0, -1) == [c1.encode()]
    assert store.due_webhook(60, 8, busy) is None
    first, second, third = (take(store).id for _ in range(3))
    assert ({first, third}, second) == (of_a, b1)
    assert store.due_webhook(60, 8) is None
    assert not client.exists("digitq:parties", "digitq:parked:key:a")


def test_a_party_that_has_waited_keeps_its_place_when_more_of_it_comes(store: Store, client: redis.Redis) -> None:
    ended(store, "a")
    b1 = ended(store, "b")
    assert store.due_webhook(60, 8, ["key:a", "key:b"]) is None
    a1 = take(store, busy=("key:b",)).id
    a2 = ended(store, "a")
    assert store.due_webhook(60, 8, ["key:a", "key:b"]) is None  # parked too
    assert [take(store).id for _ in range(2)] == [b1, a2]
    assert a1 not in (b1, a2)


def test_without_keys_the_parties_are_the_receivers_whatever_the_case_of_their_names(store: Store) -> None:
    ended(store, url="https://EXAMPLE.org:8443/a?b")
    assert take(store).party == "host:example.org:8443"
