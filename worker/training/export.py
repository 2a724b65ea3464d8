"""From a checkpoint to the directory that serving loads: a SavedModel and its card."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from shared.errors import ModelError
from worker.inference import golden
from worker.inference.classify import Classifier
from worker.inference.mlp import CARD, CLASSES, SIDE, Mlp, digest
from worker.training import calibration
from worker.training.checkpoint import Checkpoint
from worker.training.decision import thresholds
from worker.training.heldout import HeldOut
from worker.training.idx import Images, Mnist, pixels
from worker.training.measures import at_coverages, operating_points
from worker.training.network import Parameters, forward, tf
from worker.training.train import Split, error_rate

#: Where the card shows the risk: close together where nearly all is accepted, which is where errors begin.
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
#: What the card says of its test error; a remark of whoever exports goes behind it.
TEST_SET = (
    "The test digits were read when the model was exported, after its training. Its temperatures and thresholds were "
    "chosen with held-out digits and pictures, not with them. How often they were read for other models, and what was "
    "learnt from that, a card cannot know."
)


class Perceptron(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
    """What the SavedModel holds: the weights, and one function from pixels to probabilities.

    A network of ten logits answers with the probabilities of the digits, [n, 10]. One of eleven, the last for what is
    no digit, answers [n, 11]: those of the digits given that it is one, and the digitness; each with its temperature.
    """

    def __init__(self, parameters: Parameters, temperature: float, digit_temperature: float = 1.0) -> None:
        super().__init__()
        self.parameters = [(tf.Variable(weights), tf.Variable(biases)) for weights, biases in parameters]

        def probabilities(pixels: Any) -> Any:
            logits = forward(self.parameters, pixels)
            digits = tf.nn.softmax(logits[:, :CLASSES] / temperature)
            if logits.shape[1] == CLASSES:
                return digits
            # As a sum and not as 1 minus the rest, which has no small values left.
            shares = tf.nn.softmax(logits / digit_temperature)[:, :CLASSES]
            return tf.concat([digits, tf.reduce_sum(shares, axis=1, keepdims=True)], axis=1)

        spec = tf.TensorSpec([None, SIDE, SIDE], tf.float32, name="pixels")
        self.probabilities = tf.function(probabilities, input_signature=[spec])


def export(
    checkpoint: Checkpoint, mnist: Mnist, out: Path, *, preprocessing: str, held_out: HeldOut | None = None,
    remark: str = "",
) -> Path:  # fmt: skip
    """Write the model of the checkpoint's averages and `card.json` into the directory `out`, and return it.

    `mnist` is the data of the run, for the error rates; `preprocessing` the version of what serving does to a picture;
    `held_out` what temperatures and thresholds are chosen with, `HeldOut.of` if None; `remark` goes into what the card
    says of the test set. An earlier model in `out` is replaced; see `check_place`.
    """
    check_place(out)
    held_out = held_out or HeldOut.of(Split.of(mnist, checkpoint.recipe), checkpoint.recipe)
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    temperatures = _temperatures(checkpoint, held_out)
    module = Perceptron(checkpoint.averages, *temperatures.values())
    tf.saved_model.save(module, str(part), signatures=module.probabilities)
    (part / "assets").rmdir()  # empty, and git keeps no empty directory
    card = {"version": checkpoint.recipe.version, "sha256": "", "preprocessing": preprocessing}
    model = Mlp(tf.saved_model.load(str(part)), card)
    golden.record(Classifier(model, max_pixels=SIDE * SIDE), held_out.digits, held_out.labels, part)
    card["sha256"] = digest(part)
    choice = {"calibration": temperatures, **chosen(model, held_out)}
    about = {**card, **choice, **_card(checkpoint, mnist), "test_set": " ".join(filter(None, (TEST_SET, remark)))}
    (part / CARD).write_text(json.dumps(about, indent=2) + "\n")
    return put(part, out)


def check_place(out: Path) -> None:
    """Raises `ModelError` unless `out` is free for a model: absent, empty, or a model itself."""
    if out.exists() and any(out.iterdir()) and not (out / CARD).exists():
        raise ModelError(f"{out} is not empty and holds no model: choose another directory")


def put(part: Path, out: Path) -> Path:
    """Moves the model in `part` to `out`, on the same disk, in the place of an earlier one. Returns `out`.

    The earlier one is moved aside before and deleted after: a worker that starts meets one or the other, whole.
    """
    aside = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    if out.exists():
        out.rename(aside / "old")
    part.rename(out)
    shutil.rmtree(aside)
    return out


def _temperatures(checkpoint: Checkpoint, held_out: HeldOut) -> dict[str, float]:
    """What the logits are divided by, for the digits and, if there is an eleventh, for the digitness.

    Fitted to the held-out images where labels were smoothed or taught. The best for the seed is 1.05, which gains
    nothing (a loss of 0.0601 both): its logits stay as they are.
    """
    recipe = checkpoint.recipe
    if recipe.adamw is None and not recipe.label_smoothing:
        return {"temperature": 1.0}
    logits = _logits(checkpoint, held_out.digits)
    digits = calibration.temperature(logits[:, :CLASSES], held_out.labels)
    if logits.shape[1] == CLASSES:
        return {"temperature": digits}
    # Without examples of what is no digit nothing says how sure of that the model may be.
    if not len(held_out.nondigits):
        return {"temperature": digits, "digit_temperature": digits}
    both = np.concatenate([logits, _logits(checkpoint, held_out.nondigits)])
    labels = np.concatenate([held_out.labels, np.full(len(held_out.nondigits), CLASSES, np.uint8)])
    return {"temperature": digits, "digit_temperature": calibration.temperature(both, labels)}


def _logits(checkpoint: Checkpoint, images: Images) -> Any:
    return forward(checkpoint.averages, pixels(images)).numpy()


def chosen(model: Mlp, held_out: HeldOut) -> dict[str, Any]:
    """The thresholds, and the curve that shows what others would give: triples of coverage, risk and threshold."""
    reading = model.read(pixels(held_out.digits))
    confidences = reading.probabilities.max(axis=1).astype(np.float64)
    right = reading.probabilities.argmax(axis=1) == held_out.labels
    digitness, nondigits = (model.read(pixels(images)).digitness for images in (held_out.pictures, held_out.nondigits))
    curve = at_coverages(operating_points(confidences, right), COVERAGES)
    return {
        "thresholds": thresholds(confidences, right, digitness, nondigits),
        "risk_coverage": [[round(value, 6) for value in point] for point in curve],
    }


def _card(checkpoint: Checkpoint, mnist: Mnist) -> dict[str, Any]:
    """What the model is and how it came to be; error rates are shares from 0 to 1."""
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
