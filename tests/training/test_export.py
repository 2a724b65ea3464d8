"""The model card, and the eleventh output."""

from __future__ import annotations

import json

import numpy as np
import pytest

from shared.prediction import Outcome
from tests.tiny import nondigits, reader, stripes
from worker.inference import golden
from worker.inference.classify import Classifier
from worker.inference.decision import decide
from worker.inference.mlp import CARD, Mlp, configure_threads, digest
from worker.training.artefact.decision import digit_from
from worker.training.artefact.export import TEST_SET, export
from worker.training.artefact.heldout import HeldOut
from worker.training.data.idx import Mnist, pixels


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    configure_threads()


@pytest.fixture(scope="module")
def mnist() -> Mnist:
    return stripes()


def held_out(mnist: Mnist) -> HeldOut:
    """With one false label and one digit among what is none: a model that is never wrong has no temperature."""
    digits, labels, others = mnist.train_images[:20], mnist.train_labels[:20].copy(), nondigits(30)
    labels[0] = (labels[0] + 1) % 10
    others[0] = digits[1]
    return HeldOut(digits, labels, digits, others)


@pytest.fixture(scope="module")
def eleven(mnist: Mnist, tmp_path_factory: pytest.TempPathFactory) -> Mlp:
    """A model that knows what is no digit, exported with examples of it."""
    out = tmp_path_factory.mktemp("eleven") / "model"
    run = reader(mnist, 11, adamw=0.05)
    return Mlp.load(export(run, mnist, out, preprocessing="mnist-1", held_out=held_out(mnist)))


def softmax(logits: np.ndarray) -> np.ndarray:
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


def test_the_digits_share_one_and_the_eleventh_is_apart_each_at_its_temperature(eleven, mnist):
    images = pixels(np.concatenate([mnist.test_images, nondigits(5)]))
    [(weights, biases)] = reader(mnist, 11).averages
    logits = (images.reshape(-1, 784) @ weights + biases).astype(np.float64)
    of = eleven.card["calibration"]
    found = eleven.read(images)
    assert of["temperature"] != of["digit_temperature"]
    assert np.allclose(found.probabilities, softmax(logits[:, :10] / of["temperature"]), atol=1e-5)
    assert np.allclose(found.digitness, 1 - softmax(logits / of["digit_temperature"])[:, 10], atol=1e-5)


def test_its_threshold_parts_digits_from_what_is_none(eleven, mnist):
    threshold, chosen_with = eleven.card["thresholds"]["digit"], held_out(mnist)
    digits, others = (eleven.read(pixels(one)).digitness for one in (chosen_with.pictures, chosen_with.nondigits))
    assert threshold == digit_from(digits, others)
    assert (eleven.read(pixels(mnist.test_images)).digitness >= threshold).all()
    assert (eleven.read(pixels(nondigits(60))).digitness < threshold).all()


def test_a_model_of_ten_outputs_takes_everything_for_a_digit(mnist, tmp_path):
    model = Mlp.load(export(reader(mnist), mnist, tmp_path / "model", preprocessing="mnist-1"))
    assert model.read(pixels(nondigits(5))).digitness.tolist() == [1] * 5
    assert "digit_temperature" not in model.card["calibration"]


def test_the_curve_and_the_thresholds_are_those_of_the_held_out_digits(mnist, tmp_path):
    run = reader(mnist, sharpness=0.5)
    run.averages[0][1][3] = 0.2  # some are taken for a 3
    model = Mlp.load(export(run, mnist, tmp_path / "model", preprocessing="mnist-1"))
    probabilities = model.predict(pixels(mnist.train_images[:20]))
    confidences, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == mnist.train_labels[:20]
    curve = model.card["risk_coverage"]
    assert 1 < len(curve) <= 20
    assert curve[-1][:2] == [1, pytest.approx(1 - right.mean())]
    for coverage, risk, threshold in curve:
        taken = confidences >= threshold - 1e-6
        assert (taken.mean(), 1 - right[taken].mean()) == pytest.approx((coverage, risk), abs=1e-5)
    decided = [decide(sure, 1, (), model.card["thresholds"])[0] for sure in confidences.tolist()]
    accepted, rejected = (np.array([one == name for one in decided]) for name in ("accept", "reject"))
    assert right[accepted].all()
    assert not rejected.any() or right[rejected].mean() <= 0.5


def test_the_card_says_what_the_test_set_was_used_for_and_keeps_a_remark(mnist, tmp_path):
    for remark, expected in (("", TEST_SET), ("Read once before.", f"{TEST_SET} Read once before.")):
        export(reader(mnist), mnist, tmp_path / "model", preprocessing="mnist-1", remark=remark)
        assert json.loads((tmp_path / "model" / CARD).read_text())["test_set"] == expected


def test_the_exported_model_opens_its_own_golden_gate(eleven, mnist, tmp_path):
    out = export(reader(mnist, 11), mnist, tmp_path / "model", preprocessing="mnist-1")
    model = Mlp.load(out)
    assert model.sha256 == digest(out)
    golden.check(Classifier(model, 784), out)


def test_what_is_no_digit_to_the_model_is_rejected_as_such(eleven):
    from worker.training.data.pictures import png

    # Behind the preprocessing it is no stripe any more; the model's own threshold shows on what it sees.
    [found] = Classifier(eleven, 784)([png(nondigits(1)[0])]).results
    assert isinstance(found, Outcome)
    seen = np.frombuffer(found.input, np.uint8).reshape(1, 28, 28)
    expected = eleven.read(pixels(seen)).digitness[0]
    assert found.digitness == pytest.approx(expected, abs=1e-4)
    assert (found.reason == "not_a_digit") == (expected < eleven.card["thresholds"]["digit"])
