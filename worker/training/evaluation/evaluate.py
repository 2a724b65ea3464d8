"""Counts the errors of a model, on arrays of images and on pictures processed like uploads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from worker.inference.mlp import CLASSES
from worker.training.data.idx import Images, Labels, pixels
from worker.training.data.pictures import png
from worker.training.evaluation.measures import wilson

#: Images converted to pixels at a time.
CHUNK = 256


class Seen(Protocol):
    """The result of a preprocessing; see `worker.image.model_input.ModelInput`."""

    @property
    def pixels(self) -> NDArray[np.float32]:
        """The input of the model, float32 [28, 28] in [0, 1]."""


class Model(Protocol):
    """A model to evaluate; see `worker.inference.mlp.Mlp`."""

    def predict(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the probabilities float32 [n, 10] of images float32 [n, 28, 28]."""


#: Decodes the bytes of a picture, and makes the model's input of it.
Preprocess = Callable[..., Seen]


@dataclass(frozen=True)
class Report:
    """Counts of an evaluation: `confusion[label][digit]` images of the label were read as the digit."""

    confusion: list[list[int]]
    #: Further images that could not be decoded; they count as errors.
    undecodable: int = 0

    @property
    def images(self) -> int:
        """The number of images."""
        return sum(map(sum, self.confusion)) + self.undecodable

    @property
    def errors(self) -> int:
        """The number of images read wrongly or not at all."""
        return self.images - sum(self.confusion[digit][digit] for digit in range(CLASSES))

    @property
    def accuracy(self) -> float:
        """The share of images read right, 0 to 1; 0 without images."""
        return (self.images - self.errors) / max(self.images, 1)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the accuracy; see `wilson`."""
        return wilson(self.images - self.errors, self.images)

    @property
    def per_class(self) -> list[float]:
        """For each label, the share of its images that was read right; 0 where there were none."""
        return [row[label] / max(sum(row), 1) for label, row in enumerate(self.confusion)]

    def to_json(self) -> dict[str, Any]:
        """All of it, as JSON has it."""
        names = ("images", "errors", "undecodable", "accuracy", "interval", "per_class", "confusion")
        return {name: getattr(self, name) for name in names}

    def table(self) -> str:
        """A summary, then a row for each label: its share read right, and how often it was read as each digit."""
        rows = [
            f"{label:5}  {100 * right:6.2f} %  " + "".join(f"{count:6}" for count in counts)
            for label, (right, counts) in enumerate(zip(self.per_class, self.confusion, strict=True))
        ]
        return "\n".join(
            [self.summary(), "label     right  " + "".join(f"{digit:6}" for digit in range(CLASSES)), *rows]
        )

    def summary(self) -> str:
        """Images, errors, accuracy and its interval in one line."""
        low, high = self.interval
        interval = f"95 % interval {100 * low:.2f} to {100 * high:.2f}"
        return f"{self.images} images, {self.errors} errors, accuracy {100 * self.accuracy:.2f} % ({interval})"


def evaluate(model: Model, images: Images, labels: Labels, preprocess: Preprocess | None = None) -> Report:
    """Read images uint8 [n, 28, 28] and count what they were taken for.

    Without `preprocess` the model gets the pixels as they are; with it each image becomes a PNG file first,
    and the model gets what serving would make of an upload of it.
    """
    confusion = np.zeros((CLASSES, CLASSES), int)
    for start in range(0, len(images), CHUNK):
        chunk = images[start : start + CHUNK]
        seen = pixels(chunk) if preprocess is None else np.stack([_uploaded(image, preprocess) for image in chunk])
        np.add.at(confusion, (labels[start : start + CHUNK], model.predict(seen).argmax(axis=1)), 1)
    return Report(confusion.tolist())


def _uploaded(image: NDArray[np.uint8], preprocess: Preprocess) -> NDArray[np.float32]:
    return preprocess(png(image), max_pixels=image.size).pixels
