"""Tests of a worker's loop: the order of its steps, its retries after errors, and the state it leaves when it stops."""

from __future__ import annotations

import logging
from dataclasses import replace
from unittest.mock import Mock

import pytest
import redis

from shared import keys
from shared.batch import BatchState
from shared.batches import Batches
from shared.chunks import Item, packed
from shared.keys import Priority
from shared.prediction import State
from shared.store import Store
from tests import fakes
from tests.working import serving
from worker.inference.classify import Classified, Pictures
from worker.queue import batch_worker


def test_the_next_batch_is_run_before_recovery(store: Store) -> None:
    small = Store(store.client, replace(store.settings, batch_max_size=1))
    ids = [small.submit(b"7").id for _ in range(2)]
    with serving(small) as worker:
        worker.recovery.last_run = float("inf")  # never due
        worker._run_next(burst=True)
        assert worker.claimer.ahead
        worker.recovery.last_run = float("-inf")
        worker._run_next(burst=True)
    assert [small.fetch(id).state for id in ids] == [State.SUCCEEDED] * 2


def test_what_recovery_puts_back_is_claimed_although_nothing_was_ahead(store: Store) -> None:
    id = store.submit(b"7").id
    store.claim("dead", keys.QUEUES, 64, "n")
    store.client.zadd("rq:wip:digitq", dict.fromkeys(store.client.zrange("rq:wip:digitq", 0, -1), 1))
    with serving(store) as worker:
        worker.claimer.ahead = []  # the end of the last batch found nothing to claim
        assert worker._run_next(burst=True)
    assert store.fetch(id).state is State.SUCCEEDED


def test_leases_of_jobs_claimed_ahead_are_kept_until_they_run(store: Store) -> None:
    small = Store(store.client, replace(store.settings, batch_max_size=1))
    for _ in range(2):
        small.submit(b"7")
    held: list[int] = []
    with serving(small) as worker:
        worker.recovery.last_run = float("inf")
        worker._run_next(burst=True)
        assert worker.heartbeat_thread.ahead == worker.claimer.ahead != ()
        worker.classifier.classify = lambda images: (
            held.append(len(worker.heartbeat_thread.ahead)) or fakes.classify(images)  # type: ignore[func-returns-value]
        )
        worker._run_next(burst=True)
    assert held == [0]


def test_nothing_is_claimed_ahead_while_pages_of_the_same_claim_wait(store: Store) -> None:
    store.submit(b"7")
    store.submit(b"12 3", read="numbers")
    with serving(store) as worker:
        worker.recovery.last_run = float("inf")
        claims = worker.claimer.claim_batch()
        other = store.submit(b"1").id
        worker.run(claims, then_claim=True)
        assert worker.claimer.ahead is None
        assert store.fetch(other).state is State.QUEUED


def test_pictures_of_the_same_queue_do_not_overtake_a_chunk(store: Store) -> None:
    batches = Batches(store)
    batch = batches.submit(list(packed(Item("a.png", b"7", None) for _ in range(130))))
    sizes: list[int] = []

    def classify(images: Pictures) -> Classified:
        sizes.append(len(images))
        if len(sizes) == 1:
            store.submit(b"1", priority=Priority.LOW)
        return fakes.classify(images)

    with serving(store) as worker:
        [claim] = worker.claimer.claim_batch()
        assert claim.queue == Priority.LOW.queue
        worker.classifier.classify = classify
        worker.run([claim])
    assert sizes == [128, 2]
    assert batches.fetch(batch.id).state is BatchState.FINISHED


def test_a_worker_that_stops_is_no_longer_counted_and_holds_nothing(store: Store, client: redis.Redis) -> None:
    store.submit(b"7")
    with serving(store) as worker:
        seen: list[bool] = []

        def classify(images: Pictures) -> Classified:
            seen.append(client.zscore(keys.WORKERS, worker.name) is not None)
            return fakes.classify(images)

        worker.classifier.classify = classify
        worker.work(burst=True)
        assert seen == [True]  # it was alive before it claimed
        assert client.zscore(keys.WORKERS, worker.name) is None
        assert not client.sismember("rq:workers", worker.key)
        assert not worker.heartbeat_thread.is_alive()


def test_the_reported_speed_is_that_of_the_batches(store: Store, client: redis.Redis) -> None:
    for _ in range(3):
        store.submit(b"7")
    with serving(store) as worker:
        worker.work(burst=True)
        worker._report()
        speed = client.hget(worker.key, "speed")
    assert speed is not None and float(speed) > 0


def test_a_batch_may_take_as_long_as_its_shortest_timeout(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2):
        store.submit(b"7")
    with serving(store) as worker:
        first, second = worker.claimer.claim_batch()
        holding = Mock(wraps=worker.heartbeat_thread.holding)
        monkeypatch.setattr(worker.heartbeat_thread, "holding", holding)
        worker.run([replace(first, timeout="100"), replace(second, timeout="9")])
    assert holding.call_args.args[1] == 9


# ---------------------------------------------------------------------- errors


def failing(worker: batch_worker.BatchWorker, *errors: Exception) -> None:
    """Let the worker's next steps fail, and then stop it."""
    left = list(errors)

    def step(burst: bool) -> bool:
        if left:
            raise left.pop(0)
        worker._stop_requested = True
        return True

    worker._run_next = step  # type: ignore[method-assign]


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The longest possible wait after each error, in seconds; the worker does not really sleep."""
    most: list[float] = []
    monkeypatch.setattr(batch_worker.random, "uniform", lambda low, high: most.append(high) or low)
    monkeypatch.setattr(batch_worker.time, "sleep", lambda seconds: None)
    return most


def test_a_worker_waits_longer_after_each_error_up_to_two_seconds(store: Store, waits: list[float]) -> None:
    with serving(store) as worker:
        failing(worker, *[redis.ConnectionError("gone")] * 6)
        worker.work()
    assert waits == [0.2, 0.4, 0.8, 1.6, 2.0, 2.0]


def test_after_a_success_the_first_error_counts_as_the_first(store: Store, waits: list[float]) -> None:
    with serving(store) as worker:
        steps = iter([redis.ConnectionError("a"), redis.ConnectionError("b"), None, redis.ConnectionError("c"), None])

        def step(burst: bool) -> bool:
            error = next(steps)
            if error:
                raise error
            worker._stop_requested = len(waits) > 2
            return True

        worker._run_next = step  # type: ignore[method-assign]
        worker.work()
    assert waits == [0.2, 0.4, 0.2]


@pytest.mark.parametrize(
    ("error", "is_a_bug"), [(redis.TimeoutError("late"), False), (OSError("reset"), False), (KeyError("x"), True)]
)
def test_a_bug_is_logged_with_its_traceback_and_an_outage_in_a_line(
    error: Exception, is_a_bug: bool, store: Store, waits: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    with serving(store) as worker, caplog.at_level(logging.WARNING):
        failing(worker, error)
        worker.work()
    assert [bool(record.exc_info) for record in caplog.records if record.message == "unexpected"] == [True] * is_a_bug
    assert any("trying again" in record.message for record in caplog.records)


def test_a_lack_of_memory_ends_the_process(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    reasons: list[str] = []

    def exit_now(reason: str) -> None:
        reasons.append(reason)
        raise SystemExit

    monkeypatch.setattr(batch_worker, "exit_now", exit_now)
    with serving(store) as worker, pytest.raises(SystemExit):
        failing(worker, MemoryError())  # type: ignore[arg-type]
        worker.work()
    assert reasons == ["out of memory"]


def test_waiting_connections_are_opened_anew_after_an_error(store: Store, waits: list[float]) -> None:
    with serving(store) as worker:
        disconnect = Mock(wraps=worker.wakeup.disconnect)
        worker.wakeup.disconnect = disconnect  # type: ignore[method-assign]
        failing(worker, redis.ConnectionError("gone"))
        worker.work()
        assert disconnect.call_count == 2  # after the error, and at the end
