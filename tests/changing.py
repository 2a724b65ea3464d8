"""Pictures that stream through workers while their model changes, and what must be true of the answers."""

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
from PIL import Image, ImageDraw

from producer import Prediction, Queue
from shared import ROOT
from shared.prediction import Outcome
from shared.store import Store
from worker.inference.classify import Classifier
from worker.inference.mlp import Mlp


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


def answers_of(*models: Path) -> dict[str, np.ndarray]:
    """Version of each model -> its probabilities [40, 10] of the pictures. The models mostly disagree."""
    found = {}
    for model in map(Mlp.load, models):
        results = [Classifier(model, 10**6)([picture]).results[0] for picture in PICTURES]
        found[model.version] = np.array([one.probabilities for one in results if isinstance(one, Outcome)])
    first, second = found.values()
    assert (np.abs(first - second).max(axis=1) > 0.01).mean() > 0.5  # whose answer it is can mostly be seen
    return found


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
