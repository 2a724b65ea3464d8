"""Another model while the queue is busy: workers with the new one start, those with the old one stop, nothing shows."""

from __future__ import annotations

import time

import numpy as np
import pytest

from producer import Queue, State
from shared.settings import SHIPPED_MODEL
from shared.store import Store
from tests.changing import (
    Load,
    answers_of,
    every_batch_is_of_one_model,
    the_model_that_is_named_gave_the_answer,
    wait_for_workers,
    workers,
)
from tests.waits import until

pytestmark = pytest.mark.timeout(600)

OLD, NEW = SHIPPED_MODEL.with_name("model_seed"), SHIPPED_MODEL


@pytest.fixture(scope="module")
def answers() -> dict[str, np.ndarray]:
    return answers_of(OLD, NEW)


def change(store: Store, env: dict[str, str], load: Load) -> dict[str, float]:
    """The rolling change under load. Returns until when the old model was alone, and from when on the new one."""
    with workers(OLD, env) as old:
        wait_for_workers(store, 2)
        load.start()
        until(lambda: load.ids and load.queue.get(next(iter(load.ids))).state.terminal)
        times = {"old alone": store.time()}
        with workers(NEW, env):
            wait_for_workers(store, 4)
            for one in old:
                one.terminate()
                assert one.wait(30) == 0
            times["new alone"] = store.time()
            time.sleep(0.5)
            load.stop()
            for id in load.ids:
                load.queue.get(id, wait=30)
    return times


def test_a_rolling_change_of_the_model_drops_mixes_and_repeats_nothing(
    answers: dict[str, np.ndarray], store: Store, lean_env: dict[str, str]
) -> None:
    queue = Queue(lean_env["REDIS_URL"])
    load = Load(queue)
    times = change(store, lean_env, load)
    done = [queue.get(id) for id in load.ids]
    queue.close()
    assert len(done) > 100
    assert {(one.state, one.attempt) for one in done} == {(State.SUCCEEDED, 1)}
    assert {store.client.xlen(f"rq:results:{id}") for id in load.ids} == {1}
    old, new = answers
    assert {one.model for one in done if (one.finished_at or 0) < times["old alone"]} == {old}
    assert {one.model for one in done if (one.submitted_at or 0) > times["new alone"]} == {new}
    the_model_that_is_named_gave_the_answer(done, load.ids, answers)
    every_batch_is_of_one_model(done)
