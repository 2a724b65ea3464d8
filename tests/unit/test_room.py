"""Intake that waits for room, while Redis answers late or not at all."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from shared.errors import RedisUnavailable
from shared.redis_server import room
from shared.redis_server.room import Memory, Room

PLENTY = Memory(used=0, limit=2**30, open=0)


def nothing(_: Sequence[Any]) -> tuple[int, int]:
    """There is nothing to delete."""
    return 0, 0


def test_nobody_waits_for_a_look_of_another_thread_that_redis_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "RARE_LOOK_SECONDS", 0.0)
    deaf, asked, looks = threading.Event(), threading.Event(), [PLENTY]

    def look() -> Memory:
        if looks:
            return looks.pop()
        asked.set()
        assert deaf.wait(60)
        return PLENTY

    one = Room(look, nothing, 60)
    one.reserve(1)
    waiting = threading.Thread(target=one.reserve, args=(1,), daemon=True)
    waiting.start()
    assert asked.wait(60)
    others = [threading.Thread(target=one.reserve, args=(1,), daemon=True) for _ in range(8)]
    for other in others:
        other.start()
        other.join(30)
        assert not other.is_alive()
    deaf.set()
    waiting.join(60)


def test_a_look_that_failed_is_not_repeated_at_once_however_long_it_took(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, looks = [0.0], list[float]()
    monkeypatch.setattr(room, "time", SimpleNamespace(monotonic=lambda: clock[0]))

    def look() -> Memory:
        looks.append(clock[0])
        clock[0] += 1.4
        raise RedisUnavailable()

    one = Room(look, nothing, 60)
    for _ in range(8):
        one.reserve(1)
    assert looks == [0.0]
    clock[0] += room.RARE_LOOK_SECONDS
    one.reserve(1)
    assert looks == [0.0, clock[0] - 1.4]
