"""Tests of how the clients wait: polls of one prediction, turns among many, and items read ahead."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from producer.client import blocking, bulk, retry
from producer.client.bulk import AHEAD, LONG_SECONDS, SHORT_SECONDS, PollSchedule, map_in_order, map_in_order_async
from producer.client.retry import PAUSE_SECONDS, POLL_SECONDS, poll
from shared.batch import Batch, BatchState
from shared.prediction import Prediction, State
from tests.clock import Clock
from tests.waits import until


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    one = Clock()
    for module in (retry, bulk):
        monkeypatch.setattr(module, "time", one)
    return one


def prediction(name: str, state: State = State.QUEUED) -> Prediction:
    return Prediction(name, state)


def polled(
    clock: Clock, wait: float, *, takes: float | None = None, ends_after: int = 99
) -> tuple[list[float], list[float]]:
    """Poll; return the seconds of each look and of each pause. A look lasts `takes` seconds, else as long as it may."""
    looks: list[float] = []
    pauses: list[float] = []

    async def look(seconds: float) -> Prediction:
        looks.append(seconds)
        clock.now += seconds if takes is None else takes
        return prediction("x", State.SUCCEEDED if len(looks) >= ends_after else State.QUEUED)

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        clock.now += seconds

    asyncio.run(poll(look, wait, sleep))
    return looks, pauses


def test_a_long_wait_is_several_polls(clock: Clock) -> None:
    assert polled(clock, 25) == ([POLL_SECONDS, POLL_SECONDS, 5], [])


def test_a_poll_without_a_wait_looks_once(clock: Clock) -> None:
    assert polled(clock, 0) == ([0], [])
    assert polled(clock, -3) == ([0], [])


def test_an_ended_prediction_is_returned_at_once(clock: Clock) -> None:
    assert polled(clock, 25, ends_after=1) == ([POLL_SECONDS], [])


def test_a_server_that_does_not_hold_a_poll_is_not_asked_without_a_pause(clock: Clock) -> None:
    looks, pauses = polled(clock, 1, takes=0)
    assert looks == [1, 0.75, 0.5, 0.25, 0] and pauses == [PAUSE_SECONDS] * 4
    _, pauses = polled(clock, 0.5, takes=0.375)
    assert pauses == [0.125]  # no longer than the wait


def test_predictions_take_turns_in_short_polls_while_others_wait(clock: Clock) -> None:
    few = PollSchedule([prediction("a"), prediction("b")], 60, 2)
    assert [seconds for _, seconds in few.due(0)] == [LONG_SECONDS] * 2
    many = PollSchedule([prediction(name) for name in "abc"], 60, 2)
    assert [(one.id, seconds) for one, seconds in many.due(0)] == [("a", SHORT_SECONDS), ("b", SHORT_SECONDS)]
    assert list(many.due(2)) == []
    assert not many.has_ended(prediction("a")) and many.has_ended(prediction("b", State.FAILED))
    assert [one.id for one, _ in many.due(0)] == ["c", "a"]
    assert list(many.due(0)) == []


def test_those_that_are_being_polled_count_too(clock: Clock) -> None:
    schedule = PollSchedule([prediction(name) for name in "ab"], 60, 2)
    assert [seconds for _, seconds in schedule.due(1)] == [SHORT_SECONDS]


def test_no_poll_ends_after_the_timeout_and_then_the_missing_are_counted(clock: Clock) -> None:
    schedule = PollSchedule([prediction(name) for name in "abc"], 3, 3)
    clock.now += 1
    assert [seconds for _, seconds in schedule.due(2)] == [SHORT_SECONDS]
    clock.now += 1.5
    for one, seconds in schedule.due(1):
        assert seconds == 0.5
        schedule.has_ended(one)
    clock.now += 0.5
    with pytest.raises(TimeoutError, match="3 predictions have not ended after 3 s"):
        next(schedule.due(1))


def counted(read: list[int]) -> Iterator[int]:
    for n in range(1000):
        read.append(n)
        yield n


def test_many_are_read_only_as_far_as_they_are_sent() -> None:
    read: list[int] = []
    results = map_in_order(lambda n: n, counted(read), parallel=2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    assert len(read) == 2 + AHEAD * 2
    results.close()  # type: ignore[attr-defined]


def test_on_the_event_loop_they_are_too_and_as_many_at_a_time_as_may_be() -> None:
    read: list[int] = []
    running = SimpleNamespace(now=0, most=0, cancelled=0)

    async def work(n: int) -> int:
        running.now += 1
        running.most = max(running.most, running.now)
        try:
            await asyncio.sleep(0 if n < 10 else 60)
        except asyncio.CancelledError:
            await asyncio.sleep(0)  # it may take a while
            running.cancelled += 1
            raise
        running.now -= 1
        return n

    async def main() -> None:
        results = map_in_order_async(work, counted(read), 2)
        assert [await anext(results) for _ in range(3)] == [0, 1, 2]
        assert len(read) == 2 + AHEAD * 2 and running.most == 2
        for n in range(3, 10):
            assert await anext(results) == n
        while running.now < 2:
            await asyncio.sleep(0)
        await results.aclose()  # type: ignore[attr-defined]
        assert running.cancelled == 2

    asyncio.run(main())


def test_the_last_are_returned_when_no_more_are_read() -> None:
    async def main() -> list[int]:
        async def work(n: int) -> int:
            return n

        return [n async for n in map_in_order_async(work, range(20), 2)]

    assert list(map_in_order(lambda n: n, range(20), parallel=2)) == asyncio.run(main()) == list(range(20))


def test_a_caller_that_stops_early_waits_for_nothing_and_no_more_calls_begin() -> None:
    begun, in_time, go = list[int](), list[bool](), threading.Event()

    def work(n: int) -> int:
        begun.append(n)
        if n > 0:
            in_time.append(go.wait(5))
        return n

    results = map_in_order(work, range(100), parallel=1)
    assert next(results) == 0
    until(lambda: len(begun) == 2, 30)
    results.close()  # type: ignore[attr-defined]  # while the second one is under way
    go.set()
    until(lambda: not any(thread.name.startswith("ThreadPoolExecutor") for thread in threading.enumerate()), 30)
    assert (begun, in_time) == ([0, 1], [True])


def test_a_blocking_client_never_needs_an_event_loop() -> None:
    async def suspends() -> None:
        await asyncio.sleep(0)

    async def returns() -> int:
        return 7

    assert blocking.run(returns()) == 7
    coroutine: Coroutine[Any, Any, None] = suspends()
    with pytest.raises(RuntimeError, match="needs an event loop"):
        blocking.run(coroutine)
    with pytest.raises(RuntimeError, match="cannot reuse"):
        coroutine.send(None)  # it was closed


@pytest.mark.parametrize("ask", ["wait", "refresh", "cancel"])
@pytest.mark.parametrize("read", [prediction("one"), Batch("many", BatchState.RUNNING, 2)], ids=["prediction", "batch"])
def test_what_an_asyncio_client_returned_says_that_the_client_is_to_be_asked(
    read: Prediction | Batch, ask: str
) -> None:
    with pytest.raises(RuntimeError, match="await client"):
        getattr(read, ask)()
