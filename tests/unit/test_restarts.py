"""When a supervised process is started again, when it is given up, and how long each pause is."""

from __future__ import annotations

import signal

import pytest

from shared.standalone import process
from shared.standalone.process import Process
from tests.clock import Clock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(process, "time", clock)
    return clock


def running(keep: bool = False) -> Process:
    one = Process("web", ["true"], keep=keep)
    one.wanted = True
    return one


def ends(one: Process, clock: Clock, code: int, after: float = 5.0) -> float:
    """It has run for so long and ends; return the pause."""
    one.began = clock.now
    clock.now += after
    assert "again" in one.restart_or_give_up(code)
    return one.due - clock.now


def test_the_pause_doubles_with_each_failure_up_to_ten_seconds(clock: Clock) -> None:
    one = running()
    pauses = [ends(one, clock, 1) for _ in range(8)]
    assert pauses == pytest.approx([0.3, 0.6, 1.2, 2.4, 4.8, 9.6, 10, 10])


def test_after_a_minute_of_running_earlier_failures_count_no_longer(clock: Clock) -> None:
    one = running()
    for _ in range(4):
        ends(one, clock, 1)
    assert ends(one, clock, 1, after=59) == pytest.approx(4.8)
    assert ends(one, clock, 1, after=61) == pytest.approx(0.3)
    assert one.failures == 0


@pytest.mark.parametrize("code", [-signal.SIGKILL])
def test_who_is_killed_has_not_failed(code: int, clock: Clock) -> None:
    one = running()
    assert [ends(one, clock, code, after=0.1) for _ in range(10)] == pytest.approx([0.3] * 10)
    assert one.failures == 0 and one.code is None


def test_five_failures_at_once_are_the_last(clock: Clock) -> None:
    one = running()
    for _ in range(4):
        ends(one, clock, 1, after=2.9)
    one.began = clock.now
    assert one.restart_or_give_up(1) == "does not start, giving up (exit status 1)"
    assert one.code == 1


def test_failures_after_a_while_are_not_counted_as_failures_at_once(clock: Clock) -> None:
    one = running()
    for _ in range(4):
        ends(one, clock, 1, after=2.9)
    ends(one, clock, 1, after=3.1)
    for _ in range(4):
        ends(one, clock, 1, after=2.9)
    assert one.code is None


@pytest.mark.parametrize("code", [2, 78])
def test_wrong_settings_and_a_refused_model_are_not_tried_again(code: int, clock: Clock) -> None:
    one = running()
    one.began = clock.now
    assert "giving up" in one.restart_or_give_up(code) and one.code == code
    ends(running(keep=True), clock, code)


@pytest.mark.parametrize("code", [0, -signal.SIGTERM])
def test_who_is_stopped_stays_stopped_unless_it_is_kept(code: int, clock: Clock) -> None:
    one = running()
    assert one.restart_or_give_up(code) == "was stopped, it is not started again" and one.code == 0
    kept = running(keep=True)
    ends(kept, clock, code)
    assert kept.code is None


def test_of_a_process_that_is_no_longer_wanted_nothing_is_said(clock: Clock) -> None:
    one = running()
    one.wanted = False
    assert (one.restart_or_give_up(1), one.code, one.due) == ("", None, 0.0)


def test_the_line_says_how_it_ended_and_how_long_the_pause_is(clock: Clock) -> None:
    one = running()
    one.began = clock.now - 5
    assert one.restart_or_give_up(1) == "ended with 1, starting it again"
    assert one.restart_or_give_up(-11) == "was ended by signal 11, starting it again"
    assert one.restart_or_give_up(1) == "ended with 1, starting it again in 1 s"
