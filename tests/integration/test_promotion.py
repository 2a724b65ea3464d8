"""Models that change while pictures stream: workers take a promoted one as they run, or start with it while others
stop; and every answer is of one model."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

from producer import Prediction, Queue, State
from shared import ROOT
from shared.store import Store
from tests.changing import (
    PICTURES,
    Load,
    answers_of,
    every_batch_is_of_one_model,
    the_model_that_is_named_gave_the_answer,
    wait_for_workers,
    workers,
)
from tests.models import SEED, VERSION, copied, turned
from tests.receiver import until
from worker.inference.mlp import CARD

pytestmark = pytest.mark.timeout(600)

#: Seconds after a promotion within which every worker serves the promoted model, on a busy machine.
WITHIN = 60.0


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return turned(tmp_path_factory.mktemp("second") / "model")


class Step(NamedTuple):
    """A model that came into service; times in Unix seconds."""

    model: str
    #: When it was put into place.
    promoted: float
    #: From when on all workers say that they serve it.
    settled: float


def digitq(env: dict[str, str], *words: str) -> str:
    command = [sys.executable, "-m", "digitq", *words]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stderr


def until_all_serve(store: Store, model: str, count: int = 2) -> float:
    until(lambda: store.load().models == {model: count}, WITHIN)
    return store.time()


def promoted(store: Store, env: dict[str, str], load: Load, model: str, *words: str) -> Step:
    """Promote, wait until all workers serve the model, and let them read a while."""
    assert f"holds {model} now" in digitq(env, "promote", *words)
    at = (Path(env["DIGITQ_MODEL_PATH"]) / CARD).stat().st_mtime
    settled, before = until_all_serve(store, model), len(load.ids)
    until(lambda: len(load.ids) > before + 60, 60)
    return Step(model, at, settled)


def replaced(store: Store, env: dict[str, str], load: Load, old: Sequence[subprocess.Popen[bytes]]) -> Step:
    """Stop the old workers beside new ones, wait until those alone serve, and let them read a while."""
    at = store.time()
    wait_for_workers(store, 4)
    for one in old:
        one.terminate()
        assert one.wait(30) == 0
    settled, before = until_all_serve(store, "seed-1"), len(load.ids)
    until(lambda: len(load.ids) > before + 60, 60)
    return Step("seed-1", at, settled)


def test_promotions_and_new_workers_under_load_drop_mix_and_repeat_nothing(
    second: Path, store: Store, cli_env: dict[str, str], tmp_path: Path
) -> None:
    answers, place = answers_of(SEED, second), copied(SEED, tmp_path / "served")
    # A lease longer than any stall of a busy machine: only the changes of model may repeat a batch.
    env = {**cli_env, "DIGITQ_MODEL_PATH": str(place), "DIGITQ_LEASE_SECONDS": "30"}
    queue = Queue(env["REDIS_URL"])
    load = Load(queue)
    with workers(place, env) as old:
        wait_for_workers(store, 2)
        start = Step("seed-1", store.time(), until_all_serve(store, "seed-1"))
        load.start()
        batches = [queue.submit_batch(PICTURES * 40)]
        steps = [start, promoted(store, env, load, VERSION, str(second))]
        batches.append(queue.submit_batch(PICTURES * 40))
        steps += [
            promoted(store, env, load, "seed-1", str(SEED)),
            promoted(store, env, load, VERSION, "--previous"),
        ]
        with workers(SEED, env):
            steps.append(replaced(store, env, load, old))
            load.stop()
            done = [queue.get(id, wait=60) for id in load.ids]
            rows = [batch.wait(120).results() for batch in batches]
    queue.close()

    assert {(one.state, one.attempt) for one in done} == {(State.SUCCEEDED, 1)}
    assert {store.client.xlen(f"rq:results:{id}") for id in load.ids} == {1}
    the_model_that_is_named_gave_the_answer(done, load.ids, answers)
    every_batch_is_of_one_model(done)
    for of_batch in rows:
        assert len(of_batch) == len(PICTURES) * 40
        for row in of_batch:
            model = row["model"] or ""
            assert row["digit"] == answers[model][row["index"] % len(PICTURES)].argmax(), row
        for first in range(0, len(of_batch), 256):  # a chunk is of one model
            assert len({row["model"] for row in of_batch[first : first + 256]}) == 1
    the_old_model_answers_nothing_any_more(steps, done)
    counts = Counter(one.model for one in done), Counter(row["model"] for of_batch in rows for row in of_batch)
    print("\npictures by model:", *(dict(one) for one in counts))
    for step in steps[1:]:
        ends = [(one.finished_at or 0) - step.promoted for one in done if one.model == step.model]
        first, all_workers = min(end for end in ends if end > 0), step.settled - step.promoted
        print(f"{step.model}: first answer after {first:.2f} s, all workers say so after {all_workers:.2f} s")


def the_old_model_answers_nothing_any_more(steps: list[Step], done: list[Prediction]) -> None:
    """Between the time when all workers serve a model and the next promotion, that model alone answers."""
    for step, following in pairwise([*steps, Step("", float("inf"), float("inf"))]):
        times = [(one.submitted_at or 0, one.finished_at or 0, one.model) for one in done]
        models = {model for began, ended, model in times if step.settled < began and ended < following.promoted}
        assert models == {step.model}


def test_a_damaged_model_is_refused_where_everybody_sees_it_and_serves_nobody(
    store: Store, lean_env: dict[str, str], tmp_path: Path
) -> None:
    place = copied(SEED, tmp_path / "served")
    env = {**lean_env, "DIGITQ_MODEL_PATH": str(place)}
    queue = Queue(env["REDIS_URL"])
    with workers(place, env):
        wait_for_workers(store, 2)
        card = place / "card.json"
        good = card.read_bytes()
        card.write_text(json.dumps({**json.loads(good), "version": "bad-1", "sha256": "0"}))
        until(lambda: all(worker.refused for worker in store.load().workers), WITHIN)
        [reason] = store.load().refusals
        assert f"{place} has SHA-256" in reason
        assert store.load().models == {"seed-1": 2}
        assert queue.submit(PICTURES[0]).wait(30).model == "seed-1"
        card.write_bytes(good)
        until(lambda: not store.load().refusals, WITHIN)
    queue.close()
