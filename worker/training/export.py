"""From a checkpoint to the directory that serving loads: a SavedModel and its card."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from shared.errors import ModelError
from worker import golden
from worker.classify import Classifier
from worker.mlp import CARD, SIDE, Mlp, digest
from worker.training import calibration
from worker.training.checkpoint import Checkpoint
from worker.training.idx import Mnist, pixels
from worker.training.network import Parameters, forward, tf
from worker.training.train import Split, error_rate

#: Confidences from which an answer is taken, and below which there is none. Of the images that the seed's run held out,
#: 95 % reach 0.9, and 0.4 % of those are wrong; 0.4 % stay below 0.5, and 40 % of those are wrong.
THRESHOLDS = {"accept": 0.9, "reject": 0.5}


class Perceptron(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
    """What the SavedModel holds: the weights, and one function from pixels to probabilities."""

    def __init__(self, parameters: Parameters, temperature: float) -> None:
        super().__init__()
        self.parameters = [(tf.Variable(weights), tf.Variable(biases)) for weights, biases in parameters]

        def probabilities(pixels: Any) -> Any:
            return tf.nn.softmax(forward(self.parameters, pixels) / temperature)

        spec = tf.TensorSpec([None, SIDE, SIDE], tf.float32, name="pixels")
        self.probabilities = tf.function(probabilities, input_signature=[spec])


def export(checkpoint: Checkpoint, mnist: Mnist, out: Path, *, preprocessing: str) -> Path:
    """Write the model of the checkpoint's averages and `card.json` into the directory `out`, and return it.

    `mnist` is the data of the run, for the error rates; `preprocessing` the version of what serving does to a picture.
    An earlier model in `out` is replaced. Raises `ModelError` if `out` holds anything else.
    """
    if out.exists() and any(out.iterdir()) and not (out / CARD).exists():
        raise ModelError(f"{out} is not empty and holds no model: choose another directory")
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    temperature = _temperature(checkpoint, mnist)
    module = Perceptron(checkpoint.averages, temperature)
    tf.saved_model.save(module, str(part), signatures=module.probabilities)
    (part / "assets").rmdir()  # empty, and git keeps no empty directory
    about = {"preprocessing": preprocessing, "calibration": {"temperature": temperature}, **_card(checkpoint, mnist)}
    card = {"version": checkpoint.recipe.version, "sha256": "", **about}
    split = Split.of(mnist, checkpoint.recipe)
    serving = Classifier(Mlp(tf.saved_model.load(str(part)), card), max_pixels=SIDE * SIDE)
    golden.record(serving, split.held_out_images, split.held_out_labels, part)
    card["sha256"] = digest(part)
    (part / CARD).write_text(json.dumps(card, indent=2) + "\n")
    shutil.rmtree(out, ignore_errors=True)
    return part.rename(out)


def _temperature(checkpoint: Checkpoint, mnist: Mnist) -> float:
    """What the logits are divided by: calibrated on the held-out images if smoothed labels made the model too modest.

    The best for the seed is 1.05, which gains nothing (a loss of 0.0601 both): its logits stay as they are.
    """
    if not checkpoint.recipe.label_smoothing:
        return 1.0
    split = Split.of(mnist, checkpoint.recipe)
    logits = forward(checkpoint.averages, pixels(split.held_out_images)).numpy()
    return calibration.temperature(logits, split.held_out_labels)


def _card(checkpoint: Checkpoint, mnist: Mnist) -> dict[str, Any]:
    """What the model is and how it came to be; error rates are shares from 0 to 1."""
    split = Split.of(mnist, checkpoint.recipe)
    return {
        "architecture": "-".join(map(str, checkpoint.recipe.layers)),
        "test_error": error_rate(checkpoint.averages, mnist.test_images, mnist.test_labels),
        "validation_error": error_rate(checkpoint.averages, split.held_out_images, split.held_out_labels),
        "thresholds": THRESHOLDS,
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
