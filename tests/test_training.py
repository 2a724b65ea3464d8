"""The training: rates, gradients, checkpoints and results."""

from __future__ import annotations

import gzip
import json
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from click.testing import CliRunner

from shared.errors import DataError, ModelError, SettingsError
from tests.conftest import ROOT
from worker.inference.mlp import Mlp, configure_threads
from worker.training import cli
from worker.training.artefact import calibration
from worker.training.artefact.export import export
from worker.training.artefact.heldout import HeldOut
from worker.training.checkpoint import Checkpoint
from worker.training.data.idx import FILES, Mnist, encode, pixels
from worker.training.evaluation import runs as evaluation
from worker.training.evaluation.evaluate import Report, evaluate
from worker.training.evaluation.refusals import refusals
from worker.training.recipes import BEST, RECIPES, SEED, Recipe

TINY_BEST = replace(
    BEST,
    layers=(784, 12, 11),
    batch=20,
    steps=30,
    warm_up=5,
    validation=20,
    checkpoint_every=5,
    bank=(60, 20),
    pictures=5,
    teacher=None,
)
TINY = replace(SEED, layers=(784, 12, 10), batch=20, steps=30, decay_steps=10, validation=20, checkpoint_every=5)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    configure_threads()


def stripes() -> Mnist:
    """A data set that is learnt in no time: a digit is a bright pair of rows at its height, in noise."""
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 10, 120, dtype=np.uint8)
    images = rng.integers(0, 60, (120, 28, 28), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[2 * label : 2 * label + 2] += 190
    return Mnist(images[:100], labels[:100], images[100:], labels[100:])


@pytest.fixture(scope="module")
def mnist() -> Mnist:
    return stripes()


@pytest.fixture(scope="module")
def straight(mnist: Mnist, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """The tiny recipe, trained without interruption."""
    from worker.training.train import train

    return Checkpoint.load(train(TINY, mnist, tmp_path_factory.mktemp("run"), progress=False))


def weights(checkpoint: Checkpoint) -> list[str]:
    """Return a digest of each array: pytest would compare the arrays themselves for minutes."""
    pairs = checkpoint.parameters + checkpoint.averages + checkpoint.first + checkpoint.second
    return [sha256(array.tobytes()).hexdigest() for pair in pairs for array in pair]


# The recipe


def test_the_seed_recipe_lowers_its_rate_once_per_pass_over_60_000_images():
    rates = [SEED.learning_rate_at(step) for step in (0, 299, 300, 49_999)]
    assert rates == pytest.approx([0.1, 0.1, 0.099, 0.1 * 0.99**166])


def test_young_averages_forget_faster():
    assert [SEED.ema_decay_at(step) for step in (0, 8, 10_000)] == pytest.approx([0.1, 0.5, 0.99])


def test_the_best_recipe_warms_up_once_falls_twice_and_ends_at_rest():
    half, top = BEST.steps // 2, BEST.learning_rate
    steps = (0, 149, 300, half // 2, half - 1, half, half + half // 2, BEST.steps - 1, BEST.steps)
    expected = [top / 300, top / 2, top, top / 2, 0, top / 2, top / 4, 0, 0]
    assert [BEST.learning_rate_at(step) for step in steps] == pytest.approx(expected, rel=1e-2, abs=1e-6 * top)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_a_recipe_survives_json(recipe):
    assert Recipe.from_json(json.loads(json.dumps(recipe.__dict__))) == recipe


def test_a_recipe_written_before_there_were_distortions_is_still_that_recipe():
    new = {"adamw", "warm_up", "dropout", "label_smoothing", "pictures", "bank", "teacher", "temperature"}
    new |= {"convolutions", "cycles", "crops", "start", "labels", "share", "corrections"}
    assert Recipe.from_json({name: value for name, value in SEED.__dict__.items() if name not in new}) == SEED


def test_a_pass_shows_every_image_once_in_an_order_of_its_own():
    from worker.training.batches import batch_indices

    batches = [batch_indices(step, 60, 20, seed=1) for step in range(6)]
    first, second = np.concatenate(batches[:3]), np.concatenate(batches[3:])
    assert sorted(first) == sorted(second) == list(range(60))
    assert first.tolist() != second.tolist()
    assert first[:20].tolist() != batch_indices(0, 60, 20, seed=2).tolist()


# The network


def test_forward_is_relu_between_two_matrix_products():
    from worker.training import network

    (w1, b1), (w2, b2) = network.initial(TINY, seed=0)
    images = np.random.default_rng(0).random((5, 28, 28), np.float32)
    expected = np.maximum(images.reshape(5, 784) @ w1 + b1, 0) @ w2 + b2
    assert np.allclose(network.forward([(w1, b1), (w2, b2)], images), expected, atol=1e-5)
    assert np.abs(w1).max() <= 2 * np.sqrt(2 / 784)


def test_a_teacher_looks_through_convolutions_before_its_layers():
    from worker.training import network

    recipe = replace(TINY, layers=(7 * 7 * 4, 6, 11), convolutions=(2, 4, 4))
    parameters = network.initial(recipe, seed=0)
    shapes = [weights.shape.as_list() for weights, _ in parameters]
    assert shapes == [[5, 5, 1, 2], [3, 3, 2, 4], [3, 3, 4, 4], [196, 6], [6, 11]]
    image = np.zeros((1, 28, 28), np.float32)
    image[0, 10, 10] = 1
    moved = np.roll(image, 4, axis=2)  # by what the strides divide: the last convolution sees the same elsewhere
    [(kernel, _), *_] = parameters
    assert network.forward(parameters, image).shape == (1, 11)
    assert not np.allclose(network.forward(parameters, image), network.forward(parameters, moved))
    blind = [(np.zeros(kernel.shape, np.float32), np.zeros(2, np.float32)), *parameters[1:]]
    assert np.allclose(network.forward(blind, image), network.forward(blind, moved))


def test_a_step_goes_down_the_gradient_and_the_averages_follow():
    from worker.training import network

    images = np.random.default_rng(0).random((5, 28, 28), np.float32)
    labels = np.array([1, 2, 3, 4, 5], np.int32)
    before = network.initial(replace(TINY, layers=(784, 10)), seed=0)
    [(w, b)], [(average, _)], loss = network.backward(before, before, images, labels, 0.5, 0.75, l2=0.01)
    # By hand, for one layer: the gradient of the logits is (softmax - one-hot) / n, that of L2 is l2 * w.
    flat, w0, b0 = images.reshape(5, 784), before[0][0].numpy(), before[0][1].numpy()
    softmax = np.exp(flat @ w0 + b0)
    softmax /= softmax.sum(axis=1, keepdims=True)
    error = (softmax - np.eye(10)[labels]) / 5
    assert float(loss) == pytest.approx(-np.log(softmax[range(5), labels]).mean() + 0.01 * (w0**2).sum() / 2, rel=1e-4)
    assert np.allclose(w, w0 - 0.5 * (flat.T @ error + 0.01 * w0), atol=1e-5)
    assert np.allclose(b, b0 - 0.5 * error.sum(axis=0), atol=1e-5)
    assert np.allclose(average, 0.75 * w0 + 0.25 * w, atol=1e-6)


def test_a_first_step_of_adamw_is_as_long_as_the_rate_and_decays_the_weights():
    from worker.training import network

    images, dice = np.random.default_rng(0).random((5, 28, 28), np.float32), np.zeros((5, 12), np.uint8)
    targets = 0.95 * np.eye(10, dtype=np.float32)[1:6] + np.float32(0.005)
    before = network.initial(TINY, seed=0)
    zeros = [(np.zeros(w.shape, np.float32), np.zeros(b.shape, np.float32)) for w, b in before]
    recipe = replace(BEST, dropout=0.0, adamw=0.1, temperature=2.0)
    rates = np.float32(0.01), np.float32(0.75), np.float32(1)
    state, loss = network.backward_adamw([before, before, zeros, zeros], (images, targets, dice), rates, recipe)
    parameters, averages, first, second = state

    softmax = np.exp(network.forward(before, images).numpy() / 2)
    softmax /= softmax.sum(axis=1, keepdims=True)
    assert float(loss) == pytest.approx(4 * -(targets * np.log(softmax)).sum(axis=1).mean(), rel=1e-4)
    assert np.allclose(first[1][1], 0.1 * 2 * (softmax - targets).mean(axis=0), atol=1e-6)
    for layer in range(2):
        w0, w, gradient = before[layer][0].numpy(), parameters[layer][0].numpy(), first[layer][0].numpy() / 0.1
        assert np.allclose(second[layer][0], 0.001 * gradient**2, atol=1e-6)
        clear = np.abs(gradient) > 1e-4  # than the 1e-8 below the fraction bar
        assert np.allclose((w - 0.999 * w0)[clear], -0.01 * np.sign(gradient)[clear], atol=1e-5)
        assert np.allclose(averages[layer][0], 0.75 * w0 + 0.25 * w, atol=1e-6)


def test_frozen_layers_stay_and_the_others_move_as_ever():
    from worker.training import network

    images, dice = np.random.default_rng(0).random((5, 28, 28), np.float32), np.zeros((5, 12), np.uint8)
    batch = images, np.eye(10, dtype=np.float32)[1:6], dice
    before = network.initial(TINY, seed=0)
    zeros = [(np.zeros(w.shape, np.float32), np.zeros(b.shape, np.float32)) for w, b in before]
    rates = np.float32(0.01), np.float32(0.75), np.float32(1)
    recipe = replace(BEST, dropout=0.0)
    whole, part = (
        network.backward_adamw([before, before, zeros, zeros], batch, rates, replace(recipe, frozen=frozen))[0]
        for frozen in (0, 1)
    )
    for moved, kept, first in zip(whole, part, (before, before, zeros, zeros), strict=True):
        assert np.array_equal(kept[0][0], first[0][0])
        assert np.array_equal(kept[0][1], first[0][1])
        assert np.allclose(kept[1][0], moved[1][0], atol=1e-7)
        assert not np.array_equal(kept[1][0], first[1][0])


def test_dropout_leaves_a_share_out_and_keeps_the_mean():
    from worker.training import network

    parameters = network.initial(replace(TINY, layers=(784, 200, 100, 10)), seed=0)
    dice = np.random.default_rng(0).integers(0, 256, (50, 300), np.uint8)
    first, second = (kept.numpy() for kept in network.dropout(parameters, dice, 0.1))
    assert (first.shape, second.shape) == ((50, 200), (50, 100))
    assert (first == 0).mean() == pytest.approx(0.1, abs=0.02)
    assert first.mean() == pytest.approx(1, abs=0.02)
    images = np.random.default_rng(0).random((50, 28, 28), np.float32)
    silent = [np.zeros_like(first), second]
    assert np.allclose(network.forward(parameters, images, silent), 0)


# The run

KILLED_AT_17 = """
import os, signal
from pathlib import Path
from tests.test_training import TINY_BEST, stripes
from worker.training import train

step = train._step
def doomed(run, batch):
    if run.step == 17:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(run, batch)
train._step = doomed
train.train(TINY_BEST, stripes(), Path({run!r}), progress=False)
"""


def test_a_run_killed_at_step_17_ends_bit_identical(mnist, tmp_path):
    from worker.training.train import CHECKPOINT, train

    run, straight = tmp_path / "run", tmp_path / "straight"  # beside each other: one bank for both
    script = KILLED_AT_17.format(run=str(run))
    killed = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert Checkpoint.load(run / CHECKPOINT).step == 15
    resumed = Checkpoint.load(train(TINY_BEST, mnist, run, progress=False))
    assert weights(resumed) == weights(Checkpoint.load(train(TINY_BEST, mnist, straight, progress=False)))


def test_a_run_of_the_seed_that_goes_on_ends_bit_identical(straight, mnist, tmp_path):
    from worker.training.train import train

    assert Checkpoint.load(train(TINY, mnist, tmp_path, steps=17, progress=False)).step == 17
    assert weights(Checkpoint.load(train(TINY, mnist, tmp_path, progress=False))) == weights(straight)


def test_a_run_says_how_it_is_going_and_a_finished_one_does_nothing(mnist, tmp_path, capsys):
    from worker.training.train import train

    recipe = replace(TINY, checkpoint_every=10)
    train(recipe, mnist, tmp_path, steps=25)
    out, err = capsys.readouterr()
    assert [line.split("loss")[0] for line in out.splitlines()] == ["step     10  ", "step     20  ", "step     25  "]
    assert "validation" in out
    assert err == ""  # a bar is for terminals; in a file it would be hundreds of lines
    train(recipe, mnist, tmp_path, steps=25)
    assert capsys.readouterr() == ("", "")
    train(recipe, mnist, tmp_path, steps=26)
    assert capsys.readouterr().err == "the recipe seed goes on from step 25 of 26\n"


def test_a_pupil_makes_its_teacher_first_and_learns_from_it(mnist, tmp_path, monkeypatch):
    from worker.training.train import CHECKPOINT, train

    teacher = replace(TINY_BEST, name="teacher", layers=(7 * 7 * 4, 6, 11), convolutions=(2, 4))
    monkeypatch.setitem(RECIPES, "teacher", teacher)
    pupil = replace(TINY_BEST, teacher="teacher", temperature=2.0)
    run = Checkpoint.load(train(pupil, mnist, tmp_path / "pupil", progress=False))
    assert run.step == 30
    assert Checkpoint.load(tmp_path / "teacher" / CHECKPOINT).step == 30
    assert (tmp_path / "bank" / "digits-0000.teacher.npy").exists()


def test_a_run_goes_on_from_a_model_of_the_version_that_the_recipe_names(mnist, tmp_path):
    from worker.training.train import Split, train

    old = Checkpoint.load(train(TINY_BEST, mnist, tmp_path / "old", progress=False))
    model = export(
        old, mnist, tmp_path / "model", preprocessing="mnist-1", held_out=HeldOut.of(Split.of(mnist, TINY), TINY)
    )
    further = replace(TINY_BEST, name="further", start=TINY_BEST.version, learning_rate=0.0, labels=0.3)
    run = Checkpoint.load(train(further, mnist, tmp_path / "further", progress=False, start=model))
    for new, before in zip(run.averages, old.averages, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(new, before, strict=True))
    assert run.data[TINY_BEST.version] == Mlp.load(model).sha256
    mixed = replace(further, name="mixed", learning_rate=0.01, share=0.0)
    run = Checkpoint.load(train(mixed, mnist, tmp_path / "mixed", progress=False, start=model))
    assert np.array_equal(run.averages[0][0], old.averages[0][0])
    assert not np.array_equal(run.parameters[0][0], old.averages[0][0])
    with pytest.raises(SettingsError, match="begins with the model"):
        train(further, mnist, tmp_path / "none", progress=False)
    with pytest.raises(SettingsError, match="expected other-1"):
        train(replace(further, start="other-1"), mnist, tmp_path / "other", progress=False, start=model)


def test_a_run_learns(mnist, tmp_path):
    from worker.training.train import error_rate, train

    run = Checkpoint.load(train(replace(TINY, checkpoint_every=300), mnist, tmp_path, steps=300, progress=False))
    assert error_rate(run.averages, mnist.test_images, mnist.test_labels) <= 0.1


def test_a_run_directory_belongs_to_one_recipe_seed_and_data_set(straight, mnist, tmp_path):
    from worker.training.train import CHECKPOINT, train

    straight.save(tmp_path / CHECKPOINT)
    flipped = replace(mnist, train_images=255 - mnist.train_images)
    for recipe, data, seed in [(replace(TINY, l2=0.1), mnist, 0), (TINY, mnist, 1), (TINY, flipped, 0)]:
        with pytest.raises(SettingsError, match="another recipe, seed or data set"):
            train(recipe, data, tmp_path, seed, progress=False)
    with pytest.raises(SettingsError, match="at step 30 already, past 10"):
        train(TINY, mnist, tmp_path, steps=10, progress=False)


def test_a_damaged_checkpoint_and_too_few_images_are_errors(mnist, tmp_path):
    from worker.training.train import CHECKPOINT, train

    (tmp_path / CHECKPOINT).write_bytes(b"PK\x03\x04 no more")
    with pytest.raises(DataError, match="not a checkpoint"):
        train(TINY, mnist, tmp_path, progress=False)
    with pytest.raises(DataError, match="at least 110 training images, found 100"):
        train(replace(TINY, validation=90), mnist, tmp_path, progress=False)


# The artefact


def test_the_export_is_the_checkpoints_averages_with_a_card(straight, mnist, tmp_path):
    from worker.training import network

    model = Mlp.load(export(straight, mnist, tmp_path / "model", preprocessing="mnist-1"))
    logits = network.forward(straight.averages, pixels(mnist.test_images)).numpy()
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    assert np.allclose(model.predict(pixels(mnist.test_images)), odds / odds.sum(axis=1, keepdims=True), atol=1e-6)
    report = evaluate(model, mnist.test_images, mnist.test_labels)
    assert model.card["test_error"] == pytest.approx(1 - report.accuracy)
    expected = {"version": "seed-1", "architecture": "784-12-10", "steps": 30, "seed": 0, "preprocessing": "mnist-1"}
    assert expected.items() <= model.card.items()
    assert model.card["data"] == mnist.sha256()
    assert Recipe.from_json(model.card["recipe"]) == TINY


def test_an_export_replaces_a_model_and_nothing_else(straight, mnist, tmp_path):
    for _ in range(2):
        export(straight, mnist, tmp_path / "model", preprocessing="mnist-1")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "draft.txt").write_text("years of work")
    with pytest.raises(ModelError, match="holds no model"):
        export(straight, mnist, tmp_path / "thesis", preprocessing="mnist-1")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "thesis"]
    assert (tmp_path / "thesis" / "draft.txt").exists()


def test_a_model_of_smoothed_labels_is_exported_with_the_temperature_that_fits_the_held_out_images(mnist, tmp_path):
    from worker.training import network
    from worker.training.train import train

    run = Checkpoint.load(train(replace(TINY, label_smoothing=0.05), mnist, tmp_path, steps=5, progress=False))
    model = Mlp.load(export(run, mnist, tmp_path / "model", preprocessing="mnist-1"))
    temperature = model.card["calibration"]["temperature"]
    logits = network.forward(run.averages, pixels(mnist.train_images[:20])).numpy()
    assert temperature == calibration.temperature(logits, mnist.train_labels[:20]) != 1
    odds = np.exp((logits - logits.max(axis=1, keepdims=True)) / temperature)
    found = model.predict(pixels(mnist.train_images[:20]))
    assert np.allclose(found, odds / odds.sum(axis=1, keepdims=True), atol=1e-5)


@pytest.mark.parametrize("modesty", [0.5, 1, 3])
def test_the_temperature_undoes_the_one_that_the_labels_were_drawn_at(modesty):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (20_000, 10))
    odds = np.exp(logits)
    drawn = (odds / odds.sum(axis=1, keepdims=True)).cumsum(axis=1)
    labels = (rng.random((20_000, 1)) > drawn).sum(axis=1).clip(max=9)
    assert calibration.temperature(logits * modesty, labels) == pytest.approx(modesty, rel=0.03)


# The evaluation


class Always:
    """A model that reads every picture as one digit, with the brightest pixel as its confidence."""

    def __init__(self, digit: int) -> None:
        self.digit = digit

    def predict(self, images: np.ndarray) -> np.ndarray:
        return np.eye(10, dtype=np.float32)[[self.digit] * len(images)] * images.max(axis=(1, 2))[:, None]


def test_a_report_counts_confusions(mnist):
    report = evaluate(Always(3), mnist.test_images, mnist.test_labels)
    threes = int((mnist.test_labels == 3).sum())
    assert (report.images, report.errors) == (20, 20 - threes)
    assert report.per_class == [0, 0, 0, 1, 0, 0, 0, 0, 0, 0]
    assert [row[3] for row in report.confusion] == np.bincount(mnist.test_labels, minlength=10).tolist()
    assert report.to_json()["accuracy"] == threes / 20
    assert report.table().startswith(f"20 images, {20 - threes} errors, accuracy {5 * threes:.2f} %")
    assert len(report.table().splitlines()) == 12


def test_an_empty_report_has_no_accuracy():
    assert Report([[0] * 10] * 10).accuracy == 0


def test_served_pictures_arrive_as_png_files(mnist):
    class Seen(NamedTuple):
        pixels: np.ndarray

    files = []

    def preprocess(data: bytes, *, max_pixels: int) -> Seen:
        files.append((data[:4], max_pixels))
        return Seen(np.full((28, 28), 0.5, np.float32))

    report = evaluate(Always(3), mnist.test_images, mnist.test_labels, preprocess)
    assert files == [(b"\x89PNG", 784)] * 20
    assert report.images == 20


# The commands


def test_train_and_evaluate_from_the_command_line(mnist, tmp_path, monkeypatch):
    monkeypatch.setitem(RECIPES, "seed", TINY)
    monkeypatch.setattr(evaluation, "refusals", partial(refusals, n=5))
    for attribute, name in FILES.items():
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(encode(getattr(mnist, attribute))))
    data, run = ["--data", str(tmp_path)], tmp_path / "run"
    trained = CliRunner().invoke(cli.train, [*data, "--run", str(run), "--seed", "4"], catch_exceptions=False)
    assert trained.stdout.splitlines()[-1].startswith("step     30  loss")
    assert f"the model is in {run / 'model'}" in trained.stderr
    model = ["--model", str(run / "model")]
    model += ["--out", str(tmp_path / "report"), "--robustness", "5"]
    printed = CliRunner().invoke(cli.evaluate, [*data, *model, "--json"], catch_exceptions=False).stdout
    [report] = json.loads(printed)["models"]
    assert report["model"] == "seed-1"
    assert report["direct"]["images"] == report["images"] == 20
    table = CliRunner().invoke(cli.evaluate, [*data, *model], catch_exceptions=False).stdout
    assert "seed-1, direct: 20 images" in table
    assert "seed-1, served: 20 images" in table


def test_missing_data_say_how_to_get_them(tmp_path):
    result = CliRunner().invoke(cli.train, ["--data", str(tmp_path), "--run", str(tmp_path / "run")])
    assert isinstance(result.exception, DataError)
    assert "--download" in str(result.exception)
    assert not Path(tmp_path / "run").exists()
