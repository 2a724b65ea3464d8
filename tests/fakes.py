"""Stand-ins for the model: pictures are words, and the word says what happens."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import UndecodableImage
from shared.numbers import PageReading
from shared.prediction import Outcome
from tests.pages import number
from worker.inference.classify import Classified
from worker.inference.mlp import Reading


class OnlyDigits:
    """Makes a model of a `predict`: one that takes everything for a digit."""

    def predict(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        raise NotImplementedError

    def read(self, pixels: NDArray[np.float32]) -> Reading:
        return Reading(self.predict(pixels), np.ones(len(pixels), np.float32))


def outcome(digit: int) -> Outcome:
    probabilities = tuple(0.91 if i == digit else 0.01 for i in range(10))
    return Outcome(digit, 0.91, probabilities, "accept", ("inverted",), bytes(784))


def result(image: bytes) -> Outcome | Exception:
    if image == b"undecodable":
        return UndecodableImage("The image cannot be decoded")
    if image == b"bug":
        return RuntimeError("a bug in the classifier")
    return outcome(int(image[-1:]))


def classify(images: Sequence[bytes]) -> Classified:
    """`b"...7"` is a 7; `undecodable`, `bug`, `slow` and `poison-batch` are what they say."""
    return _each(result, images)


def read_numbers(images: Sequence[bytes]) -> Classified:
    """`b"12 3"` are two numbers; otherwise as `classify`."""
    return _each(read_page, images)


def _each(one: Callable[[bytes], Outcome | Exception], images: Sequence[bytes]) -> Classified:
    if b"poison-batch" in images:
        raise RuntimeError("the whole batch fails")
    if b"slow" in images:
        time.sleep(60)
    return Classified([one(image) for image in images], 0.4, 0.9)


def read_page(image: bytes) -> Outcome | Exception:
    if not image.replace(b" ", b"").isdigit():
        return result(image)
    numbers = tuple(number(text, 100 * at, 10) for at, text in enumerate(image.decode().split()))
    page = PageReading(numbers)
    if len(page.digits) == 1:
        return replace(outcome(page.digits[0].digit), page=page)
    return Outcome(None, None, None, "accept", ("inverted",), b"", page=page)


class Sure:
    """A model that sees a 7 in everything, as sure as it is told to be that it is one, and that it is a digit."""

    version = "sure-1"

    def __init__(self, confidence: float = 0.95, digitness: float = 1.0, **thresholds: float) -> None:
        self.card: dict[str, Any] = {"thresholds": thresholds} if thresholds else {}
        self.confidence, self.digitness = confidence, digitness

    def predict(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        probabilities = np.full((len(pixels), 10), (1 - self.confidence) / 9, np.float32)
        probabilities[:, 7] = self.confidence
        return probabilities

    def read(self, pixels: NDArray[np.float32]) -> Reading:
        return Reading(self.predict(pixels), np.full(len(pixels), self.digitness, np.float32))
