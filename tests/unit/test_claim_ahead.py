"""The next batch is claimed in the round trip that ends the last one, and returned to the queue if it is not run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from unittest.mock import create_autospec

import pytest
import redis

from shared.claims import Claim, Finish, Ran
from shared.errors import RedisUnavailable
from shared.operations.leases import Ended
from shared.prediction import State
from shared.settings import Settings
from shared.store import Store
from tests import fakes
from tests.working import burst, serving
from worker.queue.batch_worker import BatchWorker
from worker.queue.heartbeat import Heartbeat
from worker.queue.jobs import finish
from worker.telemetry import metrics


@pytest.fixture
def one_by_one(store: Store) -> Store:
    """A store whose batches have one picture each."""
    store.settings = replace(store.settings, batch_max_size=1)
    return store


def work_until_claimed_ahead(worker: BatchWorker) -> None:
    """Run the worker until a claim was made ahead, as if it was told to stop at that moment."""
    real = worker.claimer.finish_and_claim

    def then_stop(finishes: Sequence[Finish], ran: Ran, seconds: float) -> Ended:
        ended = real(finishes, ran, seconds)
        worker._stop_requested = True
        return ended

    worker.claimer.finish_and_claim = then_stop  # type: ignore[method-assign]
    worker.work()


def test_each_batch_but_the_first_is_claimed_with_the_end_of_the_last(
    one_by_one: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [one_by_one.submit(str(digit).encode()).id for digit in range(5)]
    claims = []
    real = one_by_one.claim
    monkeypatch.setattr(one_by_one, "claim", lambda *args: claims.append(args) or real(*args))
    with serving(one_by_one) as worker:
        worker.recovery.last_run = float("inf")  # never due
        worker.work(burst=True)
    assert [one_by_one.fetch(id).digit for id in ids] == [0, 1, 2, 3, 4]
    assert len(claims) == 1


def test_a_worker_that_stops_returns_its_next_batch_without_an_attempt(one_by_one: Store) -> None:
    ids = [one_by_one.submit(b"7").id for _ in range(3)]
    with serving(one_by_one) as worker:
        worker.recovery.last_run = float("inf")
        work_until_claimed_ahead(worker)
        assert worker.claimer.ahead is None and worker.heartbeat_thread.ahead == ()
    found = [one_by_one.fetch(id) for id in ids]
    assert [one.state for one in found] == [State.SUCCEEDED, State.QUEUED, State.QUEUED]
    assert found[1].queue_position == 0  # before later ones
    burst(one_by_one)
    assert [(one.state, one.attempt) for one in map(one_by_one.fetch, ids)] == [(State.SUCCEEDED, 1)] * 3


def test_an_error_after_the_end_returns_the_next_batch_without_an_attempt(
    one_by_one: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [one_by_one.submit(b"7").id for _ in range(3)]
    errors = [RuntimeError("a bug after the end of a batch")]

    def stored(*_: Any) -> None:
        if errors:
            raise errors.pop()

    monkeypatch.setattr(metrics, "stored", stored)
    meanwhile: list[State] = []
    with serving(one_by_one) as worker:
        back_off = worker._back_off

        def watched(error: BaseException, failures: int) -> None:
            meanwhile.extend(one_by_one.fetch(id).state for id in ids)
            back_off(error, failures)

        worker._back_off = watched  # type: ignore[method-assign]
        worker.recovery.last_run = float("inf")
        worker.work(burst=True)
    assert meanwhile == [State.SUCCEEDED, State.QUEUED, State.QUEUED]  # another worker may have them while it waits
    assert [(one.state, one.attempt) for one in map(one_by_one.fetch, ids)] == [(State.SUCCEEDED, 1)] * 3


def test_an_end_that_fails_releases_the_claims_of_its_round_trip(
    one_by_one: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (one_by_one.submit(b"7").id for _ in range(2))
    [claim] = one_by_one.claim("w", ["digitq"], 1, "n")
    real = one_by_one._called
    monkeypatch.setattr(one_by_one, "_called", lambda *calls: [redis.ResponseError("MISCONF"), real(*calls[1:])[0]])
    with pytest.raises(RedisUnavailable):
        one_by_one.finish_and_claim("w", [finish(claim, fakes.outcome(7))], Ran(), 0.1, ["digitq"], 1, "m")
    assert one_by_one.fetch(first).state is State.RUNNING
    assert one_by_one.fetch(second).state is State.QUEUED


def test_a_claim_that_fails_does_not_hide_the_end(one_by_one: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    id = one_by_one.submit(b"7").id
    [claim] = one_by_one.claim("w", ["digitq"], 1, "n")
    real = one_by_one._called
    monkeypatch.setattr(one_by_one, "_called", lambda *calls: [*real(*calls[:1]), redis.ResponseError("ERR")])
    end = one_by_one.finish_and_claim("w", [finish(claim, fakes.outcome(7))], Ran(), 0.1, ["digitq"], 1, "m")
    assert end == (([], []), None)
    assert one_by_one.fetch(id).state is State.SUCCEEDED


def test_nothing_is_claimed_ahead_of_recovery_or_of_the_end_of_the_worker(one_by_one: Store) -> None:
    for _ in range(4):
        one_by_one.submit(b"7")
    with serving(one_by_one) as worker:
        worker.recovery.last_run = float("-inf")
        worker.run(worker.claimer.claim_batch(), then_claim=True)
        assert worker.claimer.ahead is None
        worker.recovery.last_run = float("inf")
        worker.run(worker.claimer.claim_batch())  # as between the slices of a chunk
        assert worker.claimer.ahead is None
        claims = worker.claimer.claim_batch()
        worker._stop_requested = True
        worker.run(claims, then_claim=True)
        assert worker.claimer.ahead is None


def test_leases_of_the_next_batch_are_renewed() -> None:
    store = create_autospec(Store, instance=True)
    store.settings = Settings()
    heartbeat = Heartbeat(store, "w", "", lambda: None)
    running, ahead = (Claim(id, "e", "normal", True, b"", b"", 1, "30", "", "") for id in "ab")
    heartbeat.ahead = [ahead]
    with heartbeat.holding([running], 5):
        heartbeat.beat()
    assert store.renew.call_args.args[1] == (running, ahead)
