"""A worker's model: loaded and tested, and another one once it is in the directory. Two small models that disagree."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from shared import ROOT
from shared.errors import ModelError
from shared.prediction import Outcome
from shared.settings import Settings
from tests.models import SEED, VERSION, copied, turned
from tests.pictures import seven
from tests.receiver import until
from worker.inference import golden, served_model
from worker.inference.classify import Classifier
from worker.inference.mlp import CARD, digest
from worker.inference.served_model import ServedModel, files_in, load
from worker.training.artefact.place import install, put, restore

#: What each model reads in a seven.
READS = {"seed-1": 7, VERSION: 8}


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that reads otherwise."""
    return turned(tmp_path_factory.mktemp("other") / "model")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings whose directory holds the small model."""
    return replace(Settings(), model_path=copied(SEED, tmp_path / "served"))


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the directory at every batch."""
    monkeypatch.setattr(served_model, "LOOK_SECONDS", 0)


def version_of(classifier: Classifier) -> str:
    """The version of the model; what it reads has to be what that model reads."""
    [found] = classifier([seven()]).results
    assert isinstance(found, Outcome)
    assert found.digit == READS[classifier.model.version]
    return classifier.model.version


def settled(served: ServedModel) -> Classifier:
    """Return the classifier once nothing is being loaded any more."""
    until(lambda: served.classifier() and served._loading is None, 60)
    return served.classifier()


# Loading


def test_the_model_that_is_loaded_is_tested_and_reads(settings: Settings) -> None:
    found = load(settings)
    assert (version_of(found.classifier), found.model.device, found.model.outputs) == ("seed-1", "cpu", 10)
    assert found.files == files_in(settings.model_path)
    assert len(found.files) == 6


def test_a_model_that_reads_otherwise_than_recorded_is_not_loaded(settings: Settings, other: Path) -> None:
    shutil.copy(other / golden.FILE, settings.model_path)
    card = settings.model_path / CARD
    card.write_text(card.read_text().replace(digest(SEED), digest(settings.model_path)))
    with pytest.raises(ModelError, match="golden self-test failed"):
        load(settings)


@pytest.mark.parametrize("preprocessing", ["mnist-6", "mnist-0", "x", "mnist"])
def test_a_model_for_another_preprocessing_is_not_loaded(preprocessing: str, tmp_path: Path) -> None:
    path = copied(SEED, tmp_path / "model", preprocessing=preprocessing)
    with pytest.raises(ModelError, match=f"preprocessing {preprocessing}, .* knows mnist-1 to mnist-5"):
        load(replace(Settings(), model_path=path))


@pytest.mark.parametrize("preprocessing", ["mnist-5", "seed"])
def test_a_model_for_a_known_preprocessing_is(preprocessing: str, tmp_path: Path) -> None:
    path = copied(SEED, tmp_path / "model", preprocessing=preprocessing)
    assert load(replace(Settings(), model_path=path)).model.card["preprocessing"] == preprocessing


def test_between_the_two_moves_of_a_promotion_a_worker_waits_for_the_model(settings: Settings) -> None:
    aside = settings.model_path.with_name("aside")
    settings.model_path.rename(aside)
    timer = threading.Timer(0.3, aside.rename, [settings.model_path])
    timer.start()
    assert load(settings).model.version == "seed-1"
    timer.join()


def test_a_model_that_does_not_come_is_refused_after_a_while(tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(ModelError, match=r"card\.json cannot be read"):
        load(replace(Settings(), model_path=tmp_path / "none"))
    assert 1 <= time.monotonic() - start < 10


def test_a_damaged_model_is_refused_at_once(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    (settings.model_path / CARD).write_text("{")
    monkeypatch.setattr(served_model.time, "sleep", lambda _: pytest.fail("it is looked at again"))
    with pytest.raises(ModelError, match=r"card\.json cannot be read"):
        load(settings)


class Interrupted:
    """In place of the self-test: promotes a model in the middle of it, the first time."""

    def __init__(self, settings: Settings, *models: Path) -> None:
        self.settings, self.models, self.check = settings, list(models), golden.check

    def __call__(self, classify: golden.Classify, folder: Path) -> None:
        models, self.models = self.models, []
        for model in models:
            put(Path(shutil.copytree(model, folder.with_name("part"))), folder)
        self.check(classify, folder)


def test_what_is_replaced_while_it_is_loaded_is_loaded_again(
    settings: Settings, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(golden, "check", Interrupted(settings, other))
    found = load(settings)
    assert version_of(found.classifier) == VERSION
    assert found.files == files_in(settings.model_path)


def test_a_model_that_went_and_came_back_meanwhile_is_loaded_again(
    settings: Settings, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same files with the same inodes, put back: only that they were touched tells it."""
    before = files_in(settings.model_path)

    def there_and_back(classify: golden.Classify, folder: Path) -> None:
        monkeypatch.setattr(golden, "check", check)
        kept = folder.with_name("kept")
        folder.rename(kept)
        shutil.copytree(other, folder)
        put(kept, folder)
        raise ModelError("a test of a model of two")

    check = golden.check
    monkeypatch.setattr(golden, "check", there_and_back)
    found = load(settings)
    assert version_of(found.classifier) == "seed-1"
    inodes = [[(name, inode) for name, inode, *_ in files] for files in (before, found.files)]
    assert inodes[0] == inodes[1]
    assert before != found.files


def test_a_model_that_is_missing_for_a_moment_after_others_came_and_went_is_waited_for(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = ((("one", 0, 0, 0),), (("other", 0, 0, 0),))
    looks, clock = [one, other, (), (), other, other], [1.0]

    def tested(_: Settings) -> tuple[str, str]:
        clock[0] += 2 * served_model.PATIENCE_SECONDS if len(looks) == 5 else 0
        if len(looks) == 3:
            raise ModelError("there is none")
        return "model", "classifier"

    monkeypatch.setattr(served_model, "time", SimpleNamespace(monotonic=lambda: clock[0], sleep=lambda _: None))
    monkeypatch.setattr(served_model, "files_in", lambda _: looks.pop(0))
    monkeypatch.setattr(served_model, "_tested", tested)
    assert load(settings) == ("model", "classifier", other)


def test_a_directory_that_never_rests_is_given_up(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served_model, "RESTLESS_SECONDS", 0)
    monkeypatch.setattr(served_model, "files_in", lambda _: ((str(time.perf_counter()), 0, 0, 0),))
    with pytest.raises(ModelError, match="replaced again and again"):
        load(settings)


@pytest.fixture
def promotions(settings: Settings, other: Path) -> Iterator[list[str]]:
    """Promotions there and back, without a pause, until the test ends; the versions."""
    install(other, settings.model_path, settings)
    done, promoted = threading.Event(), list[str]()

    def promote() -> None:
        while not done.wait(0.3):
            restore(settings.model_path, settings)
            promoted.append("")

    thread = threading.Thread(target=promote)
    thread.start()
    yield promoted
    done.set()
    thread.join()


def test_workers_that_start_while_models_are_promoted_load_one_of_them_whole(
    settings: Settings, promotions: list[str]
) -> None:
    found = set[str]()
    end = time.monotonic() + 60
    while len(promotions) < 12 or len(found) < 2:
        found.add(version_of(load(settings).classifier))
        assert time.monotonic() < end, (len(promotions), found)
    assert found == {"seed-1", VERSION}


# Following the directory


def test_a_promoted_model_is_taken_while_the_present_one_goes_on(settings: Settings, other: Path, eager: None) -> None:
    served = ServedModel(settings)
    first = served.classifier()
    install(other, settings.model_path, settings)
    assert served.classifier() is first  # it is being loaded
    assert served._loading is not None
    assert version_of(first) == "seed-1"
    assert version_of(settled(served)) == VERSION
    assert (served.refused, served.device) == ("", "cpu")
    restore(settings.model_path, settings)
    served.classifier()
    assert version_of(settled(served)) == "seed-1"


def test_a_model_that_fails_is_refused_once_and_the_next_one_is_tried(
    settings: Settings, other: Path, eager: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    served, loads = ServedModel(settings), list[Path]()
    real = served_model.load
    monkeypatch.setattr(served_model, "load", lambda s: loads.append(s.model_path) or real(s))
    first, file = served.classifier(), settings.model_path / "variables" / "variables.index"
    good = file.read_bytes()
    file.write_bytes(b"damaged")
    with caplog.at_level(logging.INFO):
        served.classifier()
        for _ in range(5):
            assert settled(served) is first
    [said] = [record for record in caplog.records if record.name == "digitq.worker"]
    assert (said.levelname, len(loads)) == ("ERROR", 1)
    assert f"goes on with model seed-1: that in {settings.model_path} is refused" in said.getMessage()
    assert "has SHA-256" in served.refused
    file.write_bytes(good)  # the very model that serves
    served.classifier()
    assert settled(served) is first
    assert (served.refused, len(loads)) == ("", 2)
    install(other, settings.model_path, settings)
    served.classifier()
    assert version_of(settled(served)) == VERSION


def test_a_model_that_vanishes_is_still_served_and_said_to_be_missing(
    settings: Settings, eager: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served_model, "PATIENCE_SECONDS", 0)
    served = ServedModel(settings)
    shutil.rmtree(settings.model_path)
    served.classifier()
    assert version_of(settled(served)) == "seed-1"
    assert "cannot be read" in served.refused


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("a bug")], ids=["memory", "bug"])
def test_an_error_while_loading_does_not_reach_what_serves(
    error: Exception, settings: Settings, eager: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = ServedModel(settings)
    (settings.model_path / CARD).touch()

    def fail(_: Settings) -> None:
        raise error

    monkeypatch.setattr(served_model, "load", fail)
    served.classifier()
    assert version_of(settled(served)) == "seed-1"
    assert served.refused in ("MemoryError()", "a bug")


def test_a_model_that_was_only_touched_is_not_another(settings: Settings, eager: None) -> None:
    served = ServedModel(settings)
    first = served.classifier()
    (settings.model_path / CARD).touch()
    served.classifier()
    assert served._loading is not None
    assert settled(served) is first


def test_other_thresholds_are_another_model(settings: Settings, eager: None) -> None:
    served = ServedModel(settings)
    card = settings.model_path / CARD
    card.write_text(card.read_text().replace('"accept": 0.9', '"accept": 0.8'))
    served.classifier()
    assert settled(served).model.card["thresholds"]["accept"] == 0.8


def test_the_directory_is_looked_at_once_a_second(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    served, looks, now = ServedModel(settings), list[float](), [time.monotonic()]
    monkeypatch.setattr(served_model, "files_in", lambda _: looks.append(now[0]) or served._seen)
    monkeypatch.setattr(served_model.time, "monotonic", lambda: now[0])
    for _ in range(100):
        now[0] += 0.1
        served.classifier()
    assert 9 <= len(looks) <= 10


# Memory


#: In a process of its own: that of the tests is full of holes by now, which other models fill or not.
REPLACED = """
import sys
from dataclasses import replace
from pathlib import Path
from shared.settings import SHIPPED_MODEL, Settings
from worker.inference.served_model import load

for at in range(20):
    load(replace(Settings(), model_path=SHIPPED_MODEL if at % 2 else Path(sys.argv[1])))
    print(int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6)
"""


def test_models_that_are_replaced_leave_no_memory_behind(other: Path) -> None:
    command = [sys.executable, "-c", REPLACED, str(other)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    sizes = [float(line) for line in done.stdout.splitlines()]
    # Those that stayed would be 8 MB each.
    assert len(sizes) == 20
    assert sizes[-1] - sizes[5] < 45, sizes
