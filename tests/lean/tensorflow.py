"""A stand-in for TensorFlow that reads our models with NumPy, for workers of tests that are not about reading digits.

A process with this folder on its PYTHONPATH finds it in place of TensorFlow, whose import alone costs seconds. The
worker is the real one, from its command line to its golden gate, which would not open if this read otherwise.
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np

DIGITS = 10


class Threading:
    """One thread each, as soon as somebody asks for it."""

    def __init__(self) -> None:
        self.within = self.between = 0

    def get_intra_op_parallelism_threads(self) -> int:
        return self.within

    def get_inter_op_parallelism_threads(self) -> int:
        return self.between

    def set_intra_op_parallelism_threads(self, threads: int) -> None:
        self.within = threads

    def set_inter_op_parallelism_threads(self, threads: int) -> None:
        self.between = threads


class Perceptron:
    """A model saved by `worker.training.artefact.export`."""

    def __init__(self, folder: Path) -> None:
        card = json.loads((folder / "card.json").read_text())
        sides = [int(side) for side in card["architecture"].split("-")]
        [file] = (folder / "variables").glob("variables.data-*")
        # The variables come first in the file, layer after layer, weights [inputs, outputs] before biases [outputs].
        shapes = [shape for inputs, outputs in pairwise(sides) for shape in ((inputs, outputs), (outputs,))]
        sizes = [int(np.prod(shape)) for shape in shapes]
        floats = np.frombuffer(file.read_bytes(), np.float32, sum(sizes))
        parts = np.split(floats, np.cumsum(sizes)[:-1])
        arrays = [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]
        self.layers = list(zip(arrays[::2], arrays[1::2], strict=True))
        self.temperature = card["calibration"]["temperature"]
        self.digit_temperature = card["calibration"].get("digit_temperature", 1.0)
        function = SimpleNamespace(read=self.read, captured_inputs=[], outputs=[np.empty(0, np.float32)])
        self.probabilities = SimpleNamespace(concrete_functions=[function])

    def read(self, pixels: np.ndarray) -> SimpleNamespace:
        *hidden, (weights, biases) = self.layers
        activations = pixels.reshape(len(pixels), -1)
        for hidden_weights, hidden_biases in hidden:
            activations = np.maximum(activations @ hidden_weights + hidden_biases, 0)
        logits = activations @ weights + biases
        rows = softmax(logits[:, :DIGITS] / self.temperature)
        if logits.shape[1] > DIGITS:
            shares = softmax(logits / self.digit_temperature)[:, :DIGITS]
            rows = np.column_stack([rows, shares.sum(axis=1)])
        return SimpleNamespace(numpy=lambda: rows)


def softmax(logits: np.ndarray) -> np.ndarray:
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


config = SimpleNamespace(
    threading=Threading(),
    list_physical_devices=lambda kind: [],
    get_visible_devices=lambda kind: [],
    set_visible_devices=lambda devices, kind: None,
)
saved_model = SimpleNamespace(load=lambda path: Perceptron(Path(path)))
raw_ops = SimpleNamespace(StatefulPartitionedCall=lambda args, f, **_: [f.read(*args)])
