"""The heartbeat: what it holds, for how long, and how often it beats."""

from __future__ import annotations

import time
from dataclasses import replace
from unittest.mock import Mock

import pytest

from shared.operations.leases import WORKER_TTL_SECONDS
from tests.unit.runners.claims import claim
from worker.queue import heartbeat as heartbeat_module
from worker.queue.heartbeat import GRACE_SECONDS, Heartbeat


def test_held_claims_have_a_time_limit_that_progress_restarts(heartbeat: Heartbeat) -> None:
    outer, inner, start = claim("outer"), claim("inner"), time.monotonic()
    with heartbeat.holding([outer], 100):
        with heartbeat.holding([inner], 1):
            assert heartbeat.claims == (outer, inner)
        assert heartbeat._deadline == pytest.approx(start + 1 + GRACE_SECONDS, abs=5)
        heartbeat.extend(1000)
        assert start + 1000 <= heartbeat._deadline - GRACE_SECONDS < start + 1010
    assert (heartbeat.claims, heartbeat._deadline) == ((), float("inf"))


def test_claims_are_no_longer_held_after_an_error(heartbeat: Heartbeat) -> None:
    with pytest.raises(RuntimeError), heartbeat.holding([claim("a")], 5):
        raise RuntimeError
    assert (heartbeat.claims, heartbeat._deadline) == ((), float("inf"))


@pytest.mark.parametrize("lease", [3.0, 10.0 * WORKER_TTL_SECONDS], ids=["a short lease", "a long lease"])
def test_a_worker_beats_three_times_before_its_lease_or_its_life_is_over(
    lease: float, store: Mock, heartbeat: Heartbeat, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.settings = replace(store.settings, lease_seconds=lease)
    waits: list[float] = []
    monkeypatch.setattr(heartbeat, "_reset_watchdog", lambda: None)
    monkeypatch.setattr(heartbeat._stop_event, "wait", lambda seconds: bool(waits.append(seconds)) or len(waits) > 2)
    heartbeat.run()
    assert waits == [min(lease, WORKER_TTL_SECONDS) / 3] * 3
    assert store.renew.call_count == 2


@pytest.mark.parametrize(
    ("beats", "pauses", "given_up_at"),
    [(1.5, [0, 0, 0], 2), (4, [0, 0, 0], None), (1.5, [600, 0, 0], 2), (4, [600, 600, 0], None)],
    ids=["late", "in time", "late after a pause", "in time but for pauses"],
)
def test_a_batch_beyond_its_time_ends_the_process_whose_pauses_do_not_count(
    beats: float, pauses: list[float], given_up_at: int | None, heartbeat: Heartbeat, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch has the time of some beats."""
    now, waits, reasons = [1000.0], [], []
    between = min(heartbeat._store.settings.lease_seconds, WORKER_TTL_SECONDS) / 3

    def wait(seconds: float) -> bool:
        if len(waits) == len(pauses):
            return True
        now[0] += seconds + pauses[len(waits)]
        waits.append(seconds)
        return False

    monkeypatch.setattr(heartbeat, "_reset_watchdog", lambda: None)
    monkeypatch.setattr(heartbeat._stop_event, "wait", wait)
    monkeypatch.setattr(heartbeat_module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(heartbeat_module, "exit_now", lambda reason: reasons.append((len(waits), reason)))
    with heartbeat.holding([claim("a")], beats * between - GRACE_SECONDS):
        heartbeat.run()
    assert reasons[:1] == ([(given_up_at, "batch of 1 hangs beyond its time")] if given_up_at else [])


def test_a_heartbeat_that_was_stopped_sets_no_watch_any_more(
    heartbeat: Heartbeat, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Mock()
    monkeypatch.setattr(heartbeat_module.faulthandler, "dump_traceback_later", watch)
    heartbeat._reset_watchdog()
    watch.assert_called_once_with(heartbeat_module.LOCKED_SECONDS, exit=True, file=2)
    heartbeat._stop_event.set()
    heartbeat._reset_watchdog()  # it was between its wait and the watch when it was told to stop
    assert watch.call_count == 1
