"""`digitq learn`: from a zip to a model in service, in a few steps of training."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from digitq.cli import main
from shared.errors import SettingsError
from shared.settings import SHIPPED_MODEL, Settings
from tests.corrected import exported, row
from tests.drawings import black_on_white, digits, drawn, encoded
from worker.inference.classify import Classifier
from worker.inference.mlp import CARD, Mlp, Reading, configure_threads
from worker.training.artefact import heldout
from worker.training.artefact.decision import REFUSING
from worker.training.artefact.export import chosen, export
from worker.training.checkpoint import Checkpoint
from worker.training.data.idx import FILES, Mnist, encode
from worker.training.learning import fit, gate, rehearsal, suspicion
from worker.training.learning import learn as learn_module
from worker.training.learning.corrections import Correction, Corrections
from worker.training.learning.examples import Examples
from worker.training.learning.fit import TooFewCorrections, recipe_of, share_of
from worker.training.learning.gate import Row
from worker.training.learning.inputs import Seen
from worker.training.learning.learn import folds
from worker.training.learning.rehearsal import Rehearsal
from worker.training.pages.crop_truth import NONDIGIT
from worker.training.recipes import BEST, LEARN
from worker.training.train import CHECKPOINT, train

#: The model to begin with: it reads drawn digits.
FIRST = replace(
    BEST, name="first", layers=(784, 48, 11), batch=40, steps=400, validation=20, checkpoint_every=400,
    bank=(200, 12, 10), pictures=8, crops=4, teacher=None, warm_up=10, temperature=1.0,
)  # fmt: skip
TINY = replace(
    LEARN, batch=44, steps=12, validation=20, checkpoint_every=4, bank=(200, 12, 10), pictures=5, crops=5,
    corrections=20, rehearsed=4, learning_rate=1e-2, warm_up=2, frozen=0,
)  # fmt: skip
PASSES = [Row("held-out digits, wrong", 5000, 21, 22, "at most 22", True)]
FAILS = [Row("held-out digits, wrong", 5000, 21, 25, "at most 22", False)]


@pytest.fixture(scope="module", autouse=True)
def threads() -> None:
    configure_threads(2)


@pytest.fixture(scope="module")
def mnist() -> Mnist:
    images, labels = digits(120)
    return Mnist(images[:100], labels[:100], images[100:], labels[100:])


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which the first run makes the bank, and the others find it."""
    return tmp_path_factory.mktemp("train")


@pytest.fixture(scope="module")
def first(mnist: Mnist, bank: Path) -> Path:
    """A small model."""
    run = Checkpoint.load(train(FIRST, mnist, bank / "first", progress=False))
    held_out = heldout.HeldOut(
        mnist.train_images[:20], mnist.train_labels[:20], mnist.train_images[:20], mnist.train_images[:0]
    )
    return export(run, mnist, bank / "first" / "model", preprocessing="mnist-5", held_out=held_out)


def picture(number: int, size: int) -> bytes:
    return encoded(black_on_white(drawn(number, 200, 200, size, (40, 40), pen=0.06 + size / 2000)))


@pytest.fixture
def zipped(tmp_path: Path) -> Callable[..., Path]:
    """Writes an export of drawn 7s that its user calls 1, and 4s; some labels may be changed."""

    def write(**changed: str) -> Path:
        labels = {
            f"{number}-{size}.png": "1" if number == 7 else "4" for number in (7, 4) for size in range(70, 110, 5)
        }
        pictures = {name: picture(int(name[0]), int(name[2:-4])) for name in labels}
        labels |= {name.replace("_", "-") + ".png": label for name, label in changed.items()}
        rows = [row(name, label) for name, label in labels.items()]
        return exported(tmp_path / "corrections.zip", pictures, rows)

    return write


@pytest.fixture
def learning(
    mnist: Mnist, first: Path, bank: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:
    """Runs `digitq learn` with a copy of the small model in service; the table's other rows are as given."""
    place = Path(shutil.copytree(first, tmp_path / "served"))
    monkeypatch.setattr(fit, "LEARN", TINY)
    monkeypatch.setattr(fit, "SHARES", (1.0,))
    monkeypatch.setattr(learn_module, "FOLDS", 2)  # each is a run of training
    monkeypatch.setattr(heldout, "DRAWN", 20)
    monkeypatch.setenv("DIGITQ_MODEL_PATH", str(place))
    for attribute, name in FILES.items():
        (tmp_path / name).write_bytes(encode(getattr(mnist, attribute)))
    run = bank / tmp_path.name

    def start(*words: str | Path, others: list[Row] = PASSES) -> Result:
        monkeypatch.setattr(gate, "side_effects", lambda *_: others)
        return CliRunner().invoke(main, ["learn", "--data", str(tmp_path), "--run", str(run), *map(str, words)])

    start.place, start.run = place, run  # type: ignore[attr-defined]
    return start


def read_in(place: Path, number: int) -> int:
    [outcome] = Classifier(Mlp.load(place), 10**6)([picture(number, 92)]).results
    return int(outcome.digit)  # type: ignore[union-attr, arg-type]


def weights(run: Path) -> list[bytes]:
    return [array.tobytes() for pair in Checkpoint.load(run / "all" / CHECKPOINT).averages for array in pair]


# The whole


def test_a_model_that_reads_the_corrections_better_is_promoted(learning, zipped):
    assert read_in(learning.place, 7) == 7
    done = learning(zipped())
    assert done.exit_code == 0, done.stderr
    assert "held-out corrections, wrong          16         8         0  8 fixed, 0 broken: p = 0.0039" in done.stderr
    assert "0 labels seem wrong" in done.stderr
    assert "promoted: the model is in" in done.stderr
    assert (read_in(learning.place, 7), read_in(learning.place, 4)) == (1, 4)
    card = json.loads((learning.place / CARD).read_text())
    assert card["version"].startswith("first-2-learn-")
    assert "learnt from 16 corrections" in card["test_set"]
    assert card["recipe"]["start"] == "first-2"


def test_each_correction_is_judged_by_a_model_that_learnt_from_all_others(learning, zipped, monkeypatch):
    learnt, judged = [], []
    monkeypatch.setattr(learn_module, "FOLDS", 4)

    def fitted(self: fit.Fitting, name: str, seen: Sequence[Seen]) -> Path:
        learnt.append({one.correction for one in seen})
        return self.start

    def judge(corrections: Corrections, *_: object) -> list[int]:
        judged.append(set(corrections.rows))
        return [one.label for one in corrections.rows]

    monkeypatch.setattr(fit.Fitting, "fit", fitted)
    monkeypatch.setattr(learn_module, "read", judge)
    monkeypatch.setattr(suspicion, "check", lambda rows, *_: np.zeros(len(rows), bool))
    learning.run.mkdir()
    done = learning(zipped(), "--no-promote")
    assert done.exit_code == 0, done.stderr
    *parts, every = learnt
    assert [one | other for one, other in zip(parts, judged, strict=True)] == [every] * 4
    assert [len(one & other) for one, other in zip(parts, judged, strict=True)] == [0] * 4
    assert set.union(*judged) == every
    assert len(every) == sum(map(len, judged)) == 16


def test_a_model_that_reads_something_else_worse_is_not_promoted(learning, zipped):
    before = Mlp.load(learning.place).sha256
    done = learning(zipped(), others=FAILS)
    assert done.exit_code == 1
    assert "held-out digits, wrong             5000        21        25  at most 22  <- fails" in done.stderr
    assert "The new model is not proven better: held-out digits, wrong: at most 22" in done.stderr
    assert Mlp.load(learning.place).sha256 == before
    assert (learning.run / "all" / "model" / CARD).exists()


def test_poisoned_corrections_are_refused_and_listed(learning, zipped, monkeypatch):
    monkeypatch.setattr(suspicion, "IMPOSSIBLE", 0.2)  # the small model is never very sure
    before = Mlp.load(learning.place).sha256
    done = learning(zipped(**{"4_70": "5", "4_80": "8", "4_100": "0"}))  # a fifth
    assert done.exit_code == 1
    assert "The corrections contradict each other: " in done.stderr
    listed = (learning.run / "suspicious.csv").read_text().splitlines()[1:]
    assert {line.rpartition("pictures/")[2].split(",")[0] for line in listed} >= {"4-70.png", "4-80.png", "4-100.png"}
    assert Mlp.load(learning.place).sha256 == before
    assert not (learning.run / "all").exists()


def test_another_model_that_was_put_in_place_meanwhile_is_not_replaced(learning, zipped, monkeypatch):
    def swapped(*_: object) -> str:
        golden_digits = learning.place / "golden.npz"
        golden_digits.write_bytes(golden_digits.read_bytes() + b" ")
        card = json.loads((learning.place / CARD).read_text())
        from worker.inference.mlp import digest

        (learning.place / CARD).write_text(json.dumps(card | {"sha256": digest(learning.place)}))
        return ""

    monkeypatch.setattr(gate, "table", swapped)
    done = learning(zipped())
    assert done.exit_code == 1
    assert "holds another model by now" in done.stderr
    assert read_in(learning.place, 7) == 7


def test_an_interrupted_run_goes_on_from_its_checkpoint_and_ends_in_the_same_model(learning, zipped, monkeypatch):
    join, steps = Examples.join, []

    def stopped(self: Examples, batch: object, recipe: object, seed: int, step: int) -> object:
        steps.append(step)
        if len(steps) == 7:
            raise KeyboardInterrupt
        return join(self, batch, recipe, seed, step)  # type: ignore[arg-type]

    assert learning(zipped(), "--no-promote").exit_code == 0
    whole = weights(learning.run)
    shutil.rmtree(learning.run)
    monkeypatch.setattr(Examples, "join", stopped)
    assert learning(zipped(), "--no-promote").exit_code == 1
    assert learning(zipped(), "--no-promote").exit_code == 0
    assert steps == [*range(7), *range(4, 12), *range(12), *range(12)]
    assert weights(learning.run) == whole


def test_the_candidate_stays_in_the_run_of_its_corrections_if_it_is_not_to_be_promoted(learning, zipped):
    before = Mlp.load(learning.place).sha256
    done = learning(zipped(), "--no-promote")
    assert done.exit_code == 0, done.stderr
    assert Mlp.load(learning.place).sha256 == before
    assert read_in(learning.run / "all" / "model", 7) == 1
    other = learning(zipped(**{"4_70": "1"}), "--no-promote")
    assert other.exit_code == 2
    assert "is of another recipe, seed or data set" in other.stderr


def test_what_cannot_be_learnt_is_said_before_the_training(learning, tmp_path, monkeypatch):
    one = exported(tmp_path / "one.zip", {"a.png": picture(7, 90)}, [row("a.png", "7")])
    assert "too few corrections: expected corrections of at least two pictures" in learning(one).stderr
    assert "expected corrections: the zip" in learning().stderr
    (tmp_path / "bad.zip").write_bytes(b"?")
    assert "The corrections cannot be used: " in learning(tmp_path / "bad.zip").stderr
    monkeypatch.setenv("DIGITQ_PREPROCESSING", "seed")
    assert "models learn with mnist alone" in learning(one).stderr
    assert not learning.run.exists()


def test_pictures_that_serving_rejects_unseen_cannot_be_learnt(learning, tmp_path):
    blank = [encoded(np.full((50, 50), level, np.uint8)) for level in (250, 251, 252)]
    path = exported(
        tmp_path / "a.zip",
        {f"{at}.png": one for at, one in enumerate(blank)},
        none=[row(f"{n}.png", "") for n in range(3)],
    )
    done = learning(path)
    assert done.exit_code == 1
    assert "serving rejects all pictures to learn from" in done.stderr


# Its parts


def contents(names: str) -> dict[str, bytes]:
    return {name: name.lower().encode() for name in names}


def test_no_picture_is_in_two_parts_also_as_a_copy():
    content = contents("abcdefghABCD")
    rows = [Correction(name, 1, (at, 0, 5, 5)) for name in content for at in range(3)]
    part = folds(rows, content.__getitem__)
    parts = {name: {int(one) for row, one in zip(rows, part, strict=True) if row.picture == name} for name in content}
    assert all(len(one) == 1 for one in parts.values())
    assert [parts[name] for name in "abcd"] == [parts[name] for name in "ABCD"]
    assert set(part.tolist()) == {0, 1, 2, 3}
    assert np.bincount(part).max() <= 12


def test_parts_do_not_depend_on_order_or_names():
    content = contents("abcdefgh")
    rows = [Correction(name, 1) for name in content]
    turned = folds(rows[::-1], content.__getitem__)[::-1]
    renamed = folds([row._replace(picture=row.picture * 2) for row in rows], lambda name: content[name[0]])
    assert folds(rows, content.__getitem__).tolist() == turned.tolist() == renamed.tolist()
    order = sorted(rows, key=lambda row: hashlib.sha256(content[row.picture]).digest())
    assert folds(order, content.__getitem__).tolist() == [0, 1, 2, 3, 0, 1, 2, 3]


def test_a_picture_with_many_corrections_is_a_part_alone():
    content = contents("abcdefgh")
    large, *others = sorted(content, key=lambda name: hashlib.sha256(content[name]).digest())
    rows = [Correction(large, 1, (at, 0, 5, 5)) for at in range(4)] + [Correction(name, 1) for name in others]
    assert folds(rows, content.__getitem__).tolist() == [0, 0, 0, 0, 1, 2, 3, 1, 2, 3, 1]


def test_of_few_pictures_each_is_a_part_and_one_cannot_be_divided():
    rows = [Correction(name, 1, (at, 0, 5, 5)) for name in "ab" for at in range(4)]
    assert sorted(np.bincount(folds(rows, contents("ab").__getitem__))) == [4, 4]
    with pytest.raises(TooFewCorrections) as refused:
        folds([Correction("a", 1), Correction("A", 2)], contents("aA").__getitem__)
    assert refused.value.code == "too_few_corrections"


def test_the_version_tells_the_model_and_the_corrections():
    model = Mlp.to_serve(SHIPPED_MODEL, "cpu")
    one, other = recipe_of(model, "a"), recipe_of(model, "b")
    assert one.name == other.name == "pages-2-learn"
    assert one.version != other.version
    assert (one.start, one.layers) == ("pages-2", (784, 1024, 1024, 1024, 11))
    model.version = one.version
    assert recipe_of(model, "a").name == "pages-2-learn"
    model.sha256 = "0"
    assert recipe_of(model, "a").version != one.version
    model.card = {**model.card, "recipe": model.card["recipe"] | {"layers": [784, 500, 10]}}
    with pytest.raises(SettingsError, match="no class for what is no digit"):
        recipe_of(model, "a")


def test_a_batch_ends_with_distorted_corrections_always_the_same():
    images, labels = digits(3)
    again = Rehearsal(np.zeros((1, 28, 28), np.uint8), np.eye(11, dtype=np.float32)[[9]])
    examples = Examples(images, np.array([3, NONDIGIT, 4], np.uint8), again)
    batch = np.zeros((2, 28, 28), np.float32), np.eye(2, 11, dtype=np.float32), np.empty((2, 0), np.uint8)
    recipe = replace(TINY, corrections=30, rehearsed=5)
    pixels, targets, dice = examples.join(batch, recipe, seed=0, step=5)
    assert (pixels.shape, targets.shape, dice.shape) == ((37, 28, 28), (37, 11), (37, 0))
    assert set(targets[2:32].argmax(axis=1)) == {3, 4, NONDIGIT}
    assert set(targets[32:].argmax(axis=1)) == {9}
    assert not pixels[:2].any()
    assert not pixels[32:].any()
    assert len({image.tobytes() for image in pixels[2:32]}) == 30
    same, other = (examples.join(batch, recipe, seed=0, step=step) for step in (5, 6))
    assert np.array_equal(same[0], pixels)
    assert not np.array_equal(other[0], pixels)
    assert examples.sha256() != Examples(images, labels, again).sha256()


def test_the_digits_that_a_model_is_least_sure_of_are_rehearsed_with_labels_where_it_is_wrong(monkeypatch):
    monkeypatch.setattr(rehearsal, "COUNT", 2)
    images = np.stack([np.full((28, 28), level, np.uint8) for level in range(3)])
    logits = np.zeros((3, 11), np.float32)
    logits[0, 1] = 9  # sure, and right
    logits[1, 2] = 1  # right, hardly
    logits[2, 4] = 5  # wrong
    found = rehearsal.hardest(logits, images, np.array([1, 2, 3]), temperature=1)
    assert found.images[:, 0, 0].tolist() == [2, 1]
    assert found.targets[0, 3] > 0.98
    assert found.targets[1, 2] == pytest.approx(0.5 * 0.982 + 0.5 * np.e / (np.e + 10), abs=1e-3)
    assert found.targets.sum(axis=1) == pytest.approx(1)


def test_the_share_of_the_trained_weights_is_as_large_as_the_held_out_pictures_allow(mnist):
    held_out = heldout.HeldOut(mnist.train_images, mnist.train_labels, mnist.train_images[:2], mnist.train_images[:2])
    first = [(np.zeros((784, 11), np.float32), np.eye(11, dtype=np.float32)[1])]  # reads 1 everywhere
    for needed, share in ((0.95, 0.85), (0.65, 0.6), (0.05, 0.1)):
        # Reads 2 from this share on, and there are fewer of those.
        trained = [(first[0][0], first[0][1] + np.eye(11, dtype=np.float32)[2] / np.float32(needed))]
        assert share_of(first, trained, held_out) == share
    assert share_of(first, first, held_out) == 1


def test_the_share_is_small_if_refusing_as_many_non_digits_costs_digits(mnist):
    dark, light = np.zeros((20, 28, 28), np.uint8), np.full((20, 28, 28), 255, np.uint8)
    first, trained = ([(np.zeros((784, 11), np.float32), np.eye(11, dtype=np.float32)[1])] for _ in range(2))
    first[0][0][0, NONDIGIT], trained[0][0][0, NONDIGIT] = 10, -10  # light pictures are no digits, or digits alone
    held_out = heldout.HeldOut(mnist.train_images, mnist.train_labels, dark, light)
    assert share_of(first, trained, held_out) == 0.4


def test_a_model_that_learnt_refuses_as_many_held_out_non_digits_as_the_one_before():
    class Read:
        """Sees that much of a digit in the pictures, whose levels are 0, 1, 2, …"""

        def __init__(self, *digitness: float, **thresholds: float) -> None:
            self.digitness, self.card = np.array(digitness, np.float32), {"thresholds": thresholds}

        def read(self, images: np.ndarray) -> Reading:
            levels = np.rint(images[:, 0, 0] * 255).astype(int)
            return Reading(np.eye(10, dtype=np.float32)[levels % 10], self.digitness[levels])

    images = np.arange(6, dtype=np.uint8)[:, None, None] * np.ones((28, 28), np.uint8)
    held_out = heldout.HeldOut(images[:2], np.array([0, 1], np.uint8), images[:2], images[2:])
    old = Read(1, 1, 0.1, 0.2, 0.3, 0.8, digit=0.5, picture=0.5, unclear=0.9)
    new = Read(0.7, 0.9, 0.6, 0.2, 0.75, 0.8)
    alone, instead = (chosen(new, held_out, one)["thresholds"] for one in (None, old))  # type: ignore[arg-type]
    assert alone == instead | {name: alone[name] for name in ("digit", "picture", "unclear")}
    passed = [int((new.digitness[2:] >= limits[name]).sum()) for limits in (alone, instead) for name in REFUSING]
    assert passed == [2, 2, 2, 1, 1, 0]


def test_held_out_pictures_are_drawn_once_and_again_if_their_file_is_damaged(mnist, tmp_path, monkeypatch):
    drawn, path = [], tmp_path / "bank" / "held-out.npz"
    images, labels = mnist.train_images[:3], mnist.train_labels[:3]

    def draw(*_: object) -> heldout.HeldOut:
        drawn.append(1)
        return heldout.HeldOut(images, labels, images[:2], images[:0])

    monkeypatch.setattr(heldout.HeldOut, "of", draw)
    for content, times in ((None, 1), (None, 1), (b"", 2), (b"?", 3), (None, 3)):
        if content is not None:
            path.write_bytes(content)
        found = heldout.HeldOut.kept(path, None, TINY)  # type: ignore[arg-type]
        assert [len(drawn), len(found.pictures), found.nondigits.shape] == [times, 2, (0, 28, 28)]
        assert np.array_equal(found.digits, images)
        assert np.array_equal(found.labels, labels)


def test_help_says_what_happens():
    shown = CliRunner().invoke(main, ["learn", "--help"]).output
    assert "Have the model in service learn from exported corrections" in shown
    assert "--pictures" in shown
    assert Settings().model_path == SHIPPED_MODEL
