"""Tests of a limited memory: the share that uploads may fill, when room is made, and how long a request waits."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from shared.errors import MemoryFull
from shared.redis_server import room
from shared.redis_server.room import Memory, Room

LIMIT = 1_000_000


class Server:
    """Has so much memory in use, and deletes so much in each step."""

    def __init__(self, used: int = 0, limit: int = LIMIT, open: int = 0, frees: int = 0) -> None:
        self.used, self.limit, self.open, self.frees = used, limit, open, frees
        self.looks, self.steps = 0, list[dict[str, Any]]()

    def look(self) -> Memory:
        self.looks += 1
        return Memory(self.used, self.limit, self.open)

    def step(self, **args: Any) -> tuple[int, int]:
        self.steps.append(args)
        self.used -= self.frees
        return (1, 0) if self.frees else (0, 0)


class Clock(SimpleNamespace):
    now: float
    sleeps: int

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now, self.sleeps = self.now + seconds, self.sleeps + 1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(now=1000.0, sleeps=0)
    monkeypatch.setattr(room, "time", clock)
    return clock


def of(server: Server) -> Room:
    return Room(server.look, server.step, 600)


# ---------------------------------------------------------------------- intake


def test_intake_fills_the_memory_but_for_a_twentieth(clock: Clock) -> None:
    server = Server(used=940_000)
    of(server).reserve(10_000)
    with pytest.raises(MemoryFull):
        of(server).reserve(10_001)


def test_what_is_open_keeps_the_room_that_it_will_need(clock: Clock) -> None:
    memory = Memory(used=0, limit=LIMIT, open=100)
    assert memory.free == pytest.approx(950_000 - 100 * 3072)
    assert Memory(used=0, limit=0, open=100).reserved == 0


def test_bytes_reserved_since_memory_was_last_read_count(clock: Clock) -> None:
    server = Server(used=500_000)
    one = of(server)
    one.reserve(200_000)
    one.reserve(200_000)
    server.used = 900_000  # nobody has looked since
    with pytest.raises(MemoryFull):
        one.reserve(200_000)


def test_a_picture_counts_with_its_record_and_with_what_its_end_needs(clock: Clock) -> None:
    server = Server(used=940_000)
    of(server).reserve(0, 1)
    with pytest.raises(MemoryFull):
        of(server).reserve(0, 2)


def test_what_never_fits_is_left_to_redis(clock: Clock) -> None:
    server = Server(used=949_999)
    of(server).reserve(LIMIT // 4 + 1)
    with pytest.raises(MemoryFull):
        of(server).reserve(LIMIT // 4)


def test_without_a_limit_everything_fits(clock: Clock) -> None:
    server = Server(used=10**12, limit=0)
    of(server).reserve(10**9)
    assert server.steps == []


def test_a_request_waits_for_a_second_and_is_told_when_to_come_back(clock: Clock) -> None:
    server = Server(used=950_000)
    with pytest.raises(MemoryFull) as refused:
        of(server).reserve(1)
    assert clock.now == pytest.approx(1001, abs=0.1)
    assert refused.value.extensions["retry_after_seconds"] == 1
    assert 10 <= server.looks <= 25 and clock.sleeps <= 25


def test_a_request_goes_on_as_soon_as_room_was_made(clock: Clock) -> None:
    server = Server(used=949_000, frees=10_000)
    of(server).reserve(5_000)
    assert clock.now == 1000
    [step] = server.steps
    assert step["begin"] == step["stop"] == pytest.approx(0.95 - 0.05 - 0.005)
    assert (step["fresh"], step["batch_fresh"], step["uncalled"], step["most"], step["ttl"], step["more"]) == (
        2.0, 10.0, 30.0, 64, 600, 0
    )  # fmt: skip


def test_a_request_goes_on_when_others_have_made_room(clock: Clock) -> None:
    server = Server(used=600_000)
    one = of(server)
    for _ in range(2):
        one.reserve(150_000)
    server.used = 100_000
    one.reserve(150_000)
    assert clock.now < 1000.2


# ---------------------------------------------------------------------- looks


@pytest.mark.parametrize(
    ("server", "pause"),
    [(Server(used=800_000), 0.05), (Server(used=100_000), 0.5), (Server(limit=0), 2.0)],
)
def test_the_fuller_the_memory_the_more_often_it_is_looked_at(server: Server, pause: float, clock: Clock) -> None:
    server.looks = 0
    one = of(server)
    one.reserve(1)
    clock.now += pause - 0.01
    one.reserve(1)
    assert server.looks == 1
    clock.now += 0.01
    one.reserve(1)
    assert server.looks == 2


# ---------------------------------------------------------------------- making room


def test_room_is_made_from_nine_tenths_on_with_what_open_pictures_will_need(clock: Clock) -> None:
    server = Server(used=1, open=10)
    of(server).make()
    [step] = server.steps
    assert (step["begin"], step["stop"]) == (pytest.approx(0.9 - 0.03072), pytest.approx(0.85 - 0.03072))
    assert (step["fresh"], step["more"]) == (10.0, 0)


def test_for_what_redis_has_refused_room_is_made_twice(clock: Clock) -> None:
    server = Server(open=10)
    of(server).make(1000)
    [step] = server.steps
    assert (step["begin"], step["stop"], step["fresh"], step["more"]) == (0.85, 0.85, 2.0, 2000)


def test_without_a_limit_no_room_is_made(clock: Clock) -> None:
    server = Server(limit=0)
    assert (of(server).make(), server.steps) == (0, [])


def test_however_much_is_open_a_hundredth_of_the_memory_is_not_made_free(clock: Clock) -> None:
    server = Server(open=10_000)
    of(server).make()
    assert (server.steps[0]["begin"], server.steps[0]["stop"]) == (0.01, 0.01)


def test_a_call_makes_room_for_a_quarter_of_a_second_at_most(clock: Clock) -> None:
    def slow(**args: Any) -> tuple[int, int]:
        clock.now += 0.1
        return 5, 1

    assert Room(Server().look, slow, 600).make() == 15


def test_deletions_are_logged_at_once_and_then_every_ten_seconds(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    one = of(Server(frees=1))
    with caplog.at_level(logging.WARNING, "digitq.redis"):
        for _ in range(3):
            one.make()
        clock.now += 9.9
        one.make()
        clock.now += 0.1
        one.make()
    assert [record.args for record in caplog.records] == [(1,), (4,)]
