"""When a silent subscription is asked whether it lives, and when it is given up."""

from __future__ import annotations

import pytest
import redis

from shared.connections import liveness
from shared.connections.liveness import ANSWER_SECONDS, PING_SECONDS, Liveness
from tests.clock import Clock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(liveness, "time", clock)
    return clock


def test_it_is_asked_after_two_seconds_of_silence_and_once(clock: Clock) -> None:
    one = Liveness()
    clock.now += PING_SECONDS - 0.01
    assert not one.ping_is_due()
    clock.now += 0.01
    assert one.ping_is_due()
    clock.now += PING_SECONDS
    assert not one.ping_is_due()


def test_whatever_it_says_is_an_answer(clock: Clock) -> None:
    one = Liveness()
    clock.now += PING_SECONDS
    assert one.ping_is_due()
    clock.now += ANSWER_SECONDS
    one.heard()
    clock.now += PING_SECONDS - 0.01
    assert not one.ping_is_due()
    clock.now += 0.01
    assert one.ping_is_due()


def test_without_an_answer_it_is_given_up_after_five_seconds(clock: Clock) -> None:
    one = Liveness()
    clock.now += PING_SECONDS
    assert one.ping_is_due()
    clock.now += ANSWER_SECONDS
    assert not one.ping_is_due()
    clock.now += 0.01
    with pytest.raises(redis.TimeoutError, match="5 s"):
        one.ping_is_due()
