"""The recovery: one worker at a time, by Redis's clock, and the turn is given back."""

from __future__ import annotations

from typing import cast
from unittest.mock import Mock, create_autospec

import pytest

from shared.batches import Batches
from shared.errors import RedisUnavailable
from shared.ids import new_id
from tests.unit.runners.claims import QUEUES
from worker.queue import recovery as recovery_module
from worker.queue.recovery import SWEEPS, Recovery


@pytest.fixture
def recovery(rq: Mock, store: Mock) -> Recovery:
    store.recovery_turn.return_value = True
    store.make_room.return_value = 0
    store.sweep.return_value = 0, 0
    store.time.return_value = 1000.5
    rq.fail_abandoned.return_value = []
    return Recovery(rq, store, create_autospec(Batches, instance=True), QUEUES)


def test_one_worker_recovers_at_a_time_and_suspension_is_for_all(store: Mock, rq: Mock, recovery: Recovery) -> None:
    store.recovery_turn.return_value = False
    assert recovery.run_if_due(burst=False)
    assert not recovery.run_if_due(burst=False)  # not due yet
    assert rq.wait_while_suspended.call_count == store.recovery_turn.call_count == 1
    assert not rq.fail_abandoned.called and not store.end_recovery_turn.called


def test_it_is_due_again_after_a_second(recovery: Recovery, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(recovery_module.time, "monotonic", lambda: now[0])
    assert recovery.run_if_due(burst=True)
    now[0] = 100.9
    assert not recovery.run_if_due(burst=True)
    now[0] = 101.0
    assert recovery.run_if_due(burst=True)


def test_a_burst_does_not_wait_for_rq_resume(rq: Mock, recovery: Recovery) -> None:
    assert recovery.run_if_due(burst=True)
    assert not rq.wait_while_suspended.called


def test_the_server_is_checked_before_anything_is_recovered(store: Mock, rq: Mock, recovery: Recovery) -> None:
    store.check_server.side_effect = RedisUnavailable("read-only")
    with pytest.raises(RedisUnavailable):
        recovery.run_if_due(burst=True)
    assert not store.recovery_turn.called


def test_the_turn_is_given_back_even_if_recovery_fails(store: Mock, rq: Mock, recovery: Recovery) -> None:
    rq.fail_abandoned.side_effect = RuntimeError("a bug")
    with pytest.raises(RuntimeError):
        recovery.run_if_due(burst=True)
    store.end_recovery_turn.assert_called_once_with("w")


def test_what_is_due_is_due_by_the_clock_of_redis(
    store: Mock, rq: Mock, recovery: Recovery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.time", lambda: 10.0**9)
    recovery.run_if_due(burst=True)
    rq.fail_abandoned.assert_called_once_with(1000.5)
    rq.enqueue_scheduled.assert_called_once_with(1000)


def test_leases_of_jobs_that_never_started_are_sorted_out_first(store: Mock, rq: Mock, recovery: Recovery) -> None:
    order = Mock()
    order.attach_mock(store.sort_out_leases, "sort_out")
    order.attach_mock(rq.fail_abandoned, "fail")
    recovery.recover_leases()
    assert [call[0] for call in order.mock_calls] == ["sort_out", "fail"]


def test_the_end_of_an_abandoned_picture_or_chunk_is_recorded(store: Mock, rq: Mock, recovery: Recovery) -> None:
    picture, batch = new_id(), new_id()
    rq.fail_abandoned.return_value = [picture, f"{batch}-3"]
    recovery.recover_leases()
    store.look_after.assert_called_once_with([picture])
    cast(Mock, recovery._batches.fetch).assert_called_once_with(batch)


def test_registries_are_cleaned_when_rq_says_so(store: Mock, rq: Mock, recovery: Recovery) -> None:
    for due, times in ((False, 0), (True, 1)):
        rq.maintenance_due = due
        recovery.last_run = float("-inf")
        recovery.run_if_due(burst=True)
        assert (store.trim_registries.call_count, rq.run_maintenance_tasks.call_count) == (times, times)


@pytest.mark.parametrize(
    ("steps", "taken"),
    [([(0, 0)], 1), ([(100, 3)], 1), ([(100, 100), (7, 7), (0, 0)], 3), ([(100, 100)] * 9, SWEEPS)],
    ids=["nothing is open", "most goes on", "all had ended", "more than in one run"],
)
def test_a_sweep_goes_on_while_all_that_it_finds_has_ended(
    steps: list[tuple[int, int]], taken: int, store: Mock, recovery: Recovery
) -> None:
    store.sweep.side_effect = steps
    recovery.sweep()
    assert store.sweep.call_count == taken
