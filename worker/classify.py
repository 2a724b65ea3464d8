"""From uploads to outcomes: decode, normalise, stack, predict, decide. Pure: it knows no Redis and no queue."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from shared.errors import DigitqError
from shared.prediction import Outcome
from worker.preprocess import Seen, preprocess

#: Confidences from which an answer is taken, and below which it is none. The model's card may say otherwise.
DEFAULT_THRESHOLDS = {"accept": 0.9, "reject": 0.5}
#: What the outside reads when the fault is ours; the log has the rest.
NOT_CLASSIFIED = "The picture could not be classified."


class Model(Protocol):
    """What classify needs of a model."""

    card: dict[str, Any]
    version: str

    def predict(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Float32 [n, 28, 28] in [0, 1] to probabilities [n, 10], in the same order."""


#: Seconds of preprocessing that close a batch: 64 photos of 50 megapixels would hold each other up for minutes.
BUDGET_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Classified:
    """Results of the first pictures of a batch, in their order, and how long the stages took for all of them."""

    results: list[Outcome | Exception]
    preprocess_ms: float
    inference_ms: float


@dataclass(frozen=True, slots=True)
class Classifier:
    """A model with the preprocessing in front of it."""

    model: Model
    max_pixels: int
    method: str = "mnist"

    def __call__(self, images: Sequence[bytes]) -> Classified:
        """Classifies a batch, or as much of it, from its beginning, as the budget of time allows; at least one picture.

        A picture that fails is an exception in its place and costs its neighbours nothing.
        """
        start = time.perf_counter()
        seen: list[Seen | Exception] = []
        for image in images:
            seen.append(self._see(image))
            if time.perf_counter() - start > BUDGET_SECONDS:
                break
        readable = [one for one in seen if isinstance(one, Seen)]
        preprocessed = time.perf_counter()
        results: list[Outcome | Exception] = [one for one in seen if not isinstance(one, Seen)]
        if readable:
            pixels = np.stack([one.pixels for one in readable])
            found = iter(self._outcomes(readable, pixels, self.model.predict(pixels)))
            results = [next(found) if isinstance(one, Seen) else one for one in seen]
        end = time.perf_counter()
        return Classified(results, (preprocessed - start) * 1000, (end - preprocessed) * 1000)

    def _see(self, image: bytes) -> Seen | Exception:
        try:
            return preprocess(image, max_pixels=self.max_pixels, method=self.method)
        except DigitqError as error:
            return error
        except Exception as error:  # one picture that meets a bug of ours must not fail the others
            return error

    def _outcomes(
        self, seen: Sequence[Seen], pixels: NDArray[np.float32], probabilities: NDArray[np.float32]
    ) -> list[Outcome]:
        if probabilities.shape != (len(seen), 10):
            raise AssertionError(f"{len(seen)} pictures gave probabilities of shape {probabilities.shape}")
        inputs = np.rint(pixels * 255).astype(np.uint8)
        digits = probabilities.argmax(axis=1)
        rows = probabilities.tolist()
        return [
            Outcome(
                digit, row[digit], tuple(row), self._decide(row[digit], one.warnings), one.warnings, input.tobytes()
            )
            for one, digit, row, input in zip(seen, digits.tolist(), rows, inputs, strict=True)
        ]

    def _decide(self, confidence: float, warnings: tuple[str, ...]) -> str:
        """`accept`, `review` or `reject`, by the thresholds on the model's card; a blank picture is never a digit."""
        thresholds = {**DEFAULT_THRESHOLDS, **self.model.card.get("thresholds", {})}
        if "no_ink" in warnings or confidence < thresholds["reject"]:
            return "reject"
        return "accept" if confidence >= thresholds["accept"] else "review"
