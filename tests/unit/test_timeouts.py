"""Waits end in time, each after its own, with one timer for all."""

from __future__ import annotations

import asyncio

from producer.serving.timeouts import Timeouts

SECONDS = 0.05


def test_each_wait_ends_after_its_time_and_not_before() -> None:
    async def run() -> list[float]:
        timeouts, loop = Timeouts(SECONDS), asyncio.get_running_loop()

        async def wait(after: float) -> float:
            await asyncio.sleep(after)
            began, one = loop.time(), loop.create_future()
            timeouts.add(one)
            await asyncio.wait_for(one, 10)
            return loop.time() - began

        return await asyncio.gather(*(wait(after) for after in (0, 0.01, 0.02, 0.02, 0.1)))

    assert all(SECONDS - 0.001 <= lasted < 5 for lasted in asyncio.run(run()))


def test_a_wait_that_has_ended_is_left_alone_and_keeps_no_other_waiting() -> None:
    async def run() -> None:
        timeouts, loop = Timeouts(SECONDS), asyncio.get_running_loop()
        ended, cancelled, open_ = loop.create_future(), loop.create_future(), loop.create_future()
        for one in (ended, cancelled, open_):
            timeouts.add(one)
        ended.set_result(None)
        cancelled.cancel()
        await asyncio.wait_for(open_, 10)

    asyncio.run(run())


def test_many_waits_have_one_timer() -> None:
    async def run() -> int:
        timeouts, loop = Timeouts(SECONDS), asyncio.get_running_loop()
        for _ in range(100):
            timeouts.add(loop.create_future())
        return len(loop._scheduled)  # type: ignore[attr-defined]

    assert asyncio.run(run()) == 1
