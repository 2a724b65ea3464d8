"""Exports a checkpoint as the directory that serving loads: a SavedModel and its card."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from worker.inference import golden
from worker.inference.classify import Classifier
from worker.inference.mlp import CARD, CLASSES, SIDE, Mlp, digest
from worker.training.artefact import calibration
from worker.training.artefact.decision import REFUSING, refusing, thresholds
from worker.training.artefact.heldout import HeldOut
from worker.training.artefact.place import check_place, put
from worker.training.checkpoint import Checkpoint
from worker.training.data.idx import Images, Mnist, pixels
from worker.training.evaluation.measures import at_coverages, operating_points
from worker.training.network import Parameters, forward, tf
from worker.training.train import Split, error_rate

#: Coverages at which the card shows the risk: close together near 1, where errors begin.
COVERAGES = (
    *(tenth / 10 for tenth in range(1, 9)),
    0.85,
    0.9,
    0.92,
    0.94,
    0.95,
    0.96,
    0.97,
    0.98,
    0.985,
    0.99,
    0.995,
    1,
)
#: The card's text about its test error; an export may add a remark.
TEST_SET = (
    "The test digits were read when the model was exported, after its training. Its temperatures and thresholds were "
    "chosen with held-out digits and pictures, not with them. How often they were read for other models, and what was "
    "learnt from that, a card cannot know."
)


def perceptron(parameters: Parameters, temperature: float, digit_temperature: float = 1.0) -> Any:
    """Return the content of the SavedModel: the weights, and a function from pixels to probabilities.

    With ten logits it returns the probabilities of the digits, [n, 10]. With an eleventh, for non-digits, it returns
    [n, 11]: the probabilities given that it is a digit, and the digitness, each with its own temperature.
    """

    module = tf.Module()
    module.parameters = [(tf.Variable(weights), tf.Variable(biases)) for weights, biases in parameters]

    def probabilities(pixels: Any) -> Any:
        logits = forward(module.parameters, pixels)
        digits = tf.nn.softmax(logits[:, :CLASSES] / temperature)
        if logits.shape[1] == CLASSES:
            return digits
        # A sum, because 1 minus the rest loses small values.
        shares = tf.nn.softmax(logits / digit_temperature)[:, :CLASSES]
        return tf.concat([digits, tf.reduce_sum(shares, axis=1, keepdims=True)], axis=1)

    spec = tf.TensorSpec([None, SIDE, SIDE], tf.float32, name="pixels")
    module.probabilities = tf.function(probabilities, input_signature=[spec])
    return module


def export(
    checkpoint: Checkpoint, mnist: Mnist, out: Path, *, preprocessing: str, held_out: HeldOut | None = None,
    remark: str = "", instead_of: Mlp | None = None,
) -> Path:  # fmt: skip
    """Write the model of the checkpoint's averages, and `card.json`, into the directory `out`, and return it.

    `mnist` is the data of the run, for the error rates; `preprocessing` the version of serving's preprocessing;
    `held_out` the data to choose temperatures and thresholds with, `HeldOut.of` if None; `remark` is added to the
    card's text about the test set; for `instead_of` see `chosen`. An earlier model in `out` is replaced; see
    `check_place`.
    """
    check_place(out)
    held_out = held_out or HeldOut.of(Split.of(mnist, checkpoint.recipe), checkpoint.recipe)
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    temperatures = _temperatures(checkpoint, held_out)
    module = perceptron(checkpoint.averages, *temperatures.values())
    tf.saved_model.save(module, str(part), signatures=module.probabilities)
    (part / "assets").rmdir()  # empty, and git keeps no empty directory
    card = {"version": checkpoint.recipe.version, "sha256": "", "preprocessing": preprocessing}
    model = Mlp(tf.saved_model.load(str(part)), card)
    golden.record(Classifier(model, max_pixels=SIDE * SIDE), held_out.digits, held_out.labels, part)
    card["sha256"] = digest(part)
    choice = {"calibration": temperatures, **chosen(model, held_out, instead_of)}
    about = {**card, **choice, **_card(checkpoint, mnist), "test_set": " ".join(filter(None, (TEST_SET, remark)))}
    (part / CARD).write_text(json.dumps(about, indent=2) + "\n")
    return put(part, out)


def _temperatures(checkpoint: Checkpoint, held_out: HeldOut) -> dict[str, float]:
    """Fit the temperatures of the digits and, if there is an eleventh logit, of the digitness, to held-out images.

    Only for recipes with smoothed or taught labels. The best for the seed is 1.05, which gains nothing (both have a
    loss of 0.0601): its logits stay unchanged.
    """
    recipe = checkpoint.recipe
    if recipe.adamw is None and not recipe.label_smoothing:
        return {"temperature": 1.0}
    logits = _logits(checkpoint, held_out.digits)
    digits = calibration.temperature(logits[:, :CLASSES], held_out.labels)
    if logits.shape[1] == CLASSES:
        return {"temperature": digits}
    # Without non-digits there is nothing to calibrate the digitness with.
    if not len(held_out.nondigits):
        return {"temperature": digits, "digit_temperature": digits}
    both = np.concatenate([logits, _logits(checkpoint, held_out.nondigits)])
    labels = np.concatenate([held_out.labels, np.full(len(held_out.nondigits), CLASSES, np.uint8)])
    return {"temperature": digits, "digit_temperature": calibration.temperature(both, labels)}


def _logits(checkpoint: Checkpoint, images: Images) -> Any:
    return forward(checkpoint.averages, pixels(images)).numpy()


def chosen(model: Mlp, held_out: HeldOut, instead_of: Mlp | None = None) -> dict[str, Any]:
    """Choose the thresholds; return them and the curve of alternatives: triples of coverage, risk and threshold.

    With each of them at least as many held-out non-digits are refused as by the model that is replaced, `instead_of`.
    """
    reading = model.read(pixels(held_out.digits))
    confidences = reading.probabilities.max(axis=1).astype(np.float64)
    right = reading.probabilities.argmax(axis=1) == held_out.labels
    digitness, nondigits = (model.read(pixels(images)).digitness for images in (held_out.pictures, held_out.nondigits))
    limits = thresholds(confidences, right, digitness, nondigits)
    if instead_of:
        before, earlier = instead_of.read(pixels(held_out.nondigits)).digitness, instead_of.card["thresholds"]
        passed = {name: int((before >= earlier[name]).sum()) for name in REFUSING}
        limits |= {name: max(limits[name], refusing(nondigits, n)) for name, n in passed.items()}
    curve = at_coverages(operating_points(confidences, right), COVERAGES)
    return {
        "thresholds": limits,
        "risk_coverage": [[round(value, 6) for value in point] for point in curve],
    }


def _card(checkpoint: Checkpoint, mnist: Mnist) -> dict[str, Any]:
    """Return the card's fields about the model and its training; error rates are shares from 0 to 1."""
    split = Split.of(mnist, checkpoint.recipe)
    return {
        "architecture": "-".join(map(str, checkpoint.recipe.layers)),
        "test_error": error_rate(checkpoint.averages, mnist.test_images, mnist.test_labels),
        "validation_error": error_rate(checkpoint.averages, split.held_out_images, split.held_out_labels),
        "recipe": asdict(checkpoint.recipe),
        "seed": checkpoint.seed,
        "steps": checkpoint.step,
        "data": checkpoint.data,
        "date": datetime.now(UTC).date().isoformat(),
        "digitq": _digitq_version(),
        "tensorflow": tf.__version__,
    }


def _digitq_version() -> str:
    try:
        return metadata.version("digitq")
    except metadata.PackageNotFoundError:  # run from a checkout that is not installed
        return "unreleased"
