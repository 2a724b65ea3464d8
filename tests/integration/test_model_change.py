"""Another model while the queue is busy: workers with the new one start, those with the old one stop, nothing shows."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from producer import Prediction, Queue, State
from shared import ROOT
from shared.prediction import Outcome
from shared.settings import SHIPPED_MODEL
from shared.store import Store
from worker.inference.classify import Classifier
from worker.inference.mlp import Mlp

pytestmark = pytest.mark.timeout(600)

OLD, NEW = SHIPPED_MODEL.with_name("model_seed"), SHIPPED_MODEL


def scribble(seed: int) -> bytes:
    """A crooked line that no two models see quite alike."""
    chance, image = random.Random(seed), Image.new("L", (48, 48))
    points = [(chance.uniform(8, 40), chance.uniform(8, 40)) for _ in range(4)]
    ImageDraw.Draw(image).line(points, fill=255, width=4, joint="curve")
    out = BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


PICTURES = [scribble(seed) for seed in range(40)]


@contextmanager
def workers(model: Path, env: dict[str, str]) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Two workers that serve a model; killed in the end if they have not stopped by then."""
    command, env = [sys.executable, "-m", "digitq", "worker"], {**env, "DIGITQ_MODEL_PATH": str(model)}
    started = [subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.DEVNULL) for _ in range(2)]
    try:
        yield started
    finally:
        for one in started:
            one.kill()
            one.wait()


class Load(threading.Thread):
    """Submits a few pictures at a time, again and again, until it is stopped; remembers which id is which picture."""

    def __init__(self, queue: Queue) -> None:
        super().__init__()
        self.queue, self.ids, self._done = queue, dict[str, int](), threading.Event()

    def run(self) -> None:
        chance = random.Random(0)
        while not self._done.wait(0.03):
            chosen = [chance.randrange(len(PICTURES)) for _ in range(chance.randrange(1, 9))]
            handed_in = self.queue.submit_many([PICTURES[number] for number in chosen])
            self.ids |= {one.id: number for one, number in zip(handed_in, chosen, strict=True)}

    def stop(self) -> None:
        self._done.set()
        self.join()


def wait_for_workers(store: Store, n: int) -> None:
    end = time.monotonic() + 90
    while len(store.workers()) != n:
        assert time.monotonic() < end, f"{store.workers()}, {store.refusal()}"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def answers() -> dict[str, np.ndarray]:
    """Version of each model -> its probabilities [40, 10] of the pictures."""
    found = {}
    for model in map(Mlp.load, (OLD, NEW)):
        results = [Classifier(model, 10**6)([picture]).results[0] for picture in PICTURES]
        found[model.version] = np.array([one.probabilities for one in results if isinstance(one, Outcome)])
    old, new = found.values()
    assert (np.abs(old - new).max(axis=1) > 0.01).mean() > 0.5  # whose answer it is can mostly be seen
    return found


def change(store: Store, env: dict[str, str], load: Load) -> dict[str, float]:
    """The rolling change under load. Returns until when the old model was alone, and from when on the new one."""
    with workers(OLD, env) as old:
        wait_for_workers(store, 2)
        load.start()
        time.sleep(0.5)
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


def the_model_that_is_named_gave_the_answer(
    done: list[Prediction], ids: dict[str, int], answers: dict[str, np.ndarray]
) -> None:
    for one in done:
        found = np.array(one.probabilities)
        off = {version: np.abs(found - rows[ids[one.id]]).max() for version, rows in answers.items()}
        assert off[one.model or ""] < 1e-3, (one, off)
        assert one.digit == found.argmax()


def every_batch_is_of_one_model(done: list[Prediction]) -> None:
    """A batch is what one script claimed and one script ended: both times are the same to the microsecond."""
    batches = defaultdict(list)
    for one in done:
        batches[one.started_at, one.finished_at].append(one)
    assert max(map(len, batches.values())) > 1
    for batch in batches.values():
        places = [one.batch or {} for one in batch]
        assert len({one.model for one in batch}) == 1
        assert {place["size"] for place in places} == {len(batch)}
        assert sorted(place["position"] for place in places) == list(range(len(batch)))
