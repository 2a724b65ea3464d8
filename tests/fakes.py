"""Stand-ins for the model: pictures are words, and the word says what happens."""

from __future__ import annotations

import time
from collections.abc import Sequence

from shared.errors import UndecodableImage
from shared.prediction import Outcome
from worker.classify import Classified


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
    if b"poison-batch" in images:
        raise RuntimeError("the whole batch fails")
    if b"slow" in images:
        time.sleep(60)
    return Classified([result(image) for image in images], 0.4, 0.9)
