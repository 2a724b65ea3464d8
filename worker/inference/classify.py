"""Classifies uploads: decode, normalise, predict, decide. Pure functions of bytes, without Redis or a queue."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from shared.errors import DigitqError
from shared.prediction import Outcome
from worker.decoding.decode import decode
from worker.decoding.fast_png import decode_plain_pngs
from worker.decoding.frames import has_several_frames
from worker.image.arrays import Floats32, Grey
from worker.image.close_up import close_up
from worker.image.fast_path import normalise_mnist_like
from worker.image.model_input import ModelInput
from worker.image.normalise import normalise_uneven
from worker.image.preprocess import METHODS, PREPROCESSING_VERSION
from worker.inference.decision import RETRIED, is_better, outcomes
from worker.inference.mlp import CLASSES, Reading

#: The message for clients when the fault is ours; the log has the details.
NOT_CLASSIFIED = "The picture could not be classified."
#: A batch is closed after this many seconds of preprocessing: 64 photos of 50 megapixels would delay each other by
#: minutes.
BUDGET_SECONDS = 1.0

#: Files, or grey levels of one size: uint8 [n, H, W], 0 black to 255 white.
Pictures = Sequence[bytes | Grey] | Grey


class Model(Protocol):
    """A model that `Classifier` can use."""

    card: dict[str, Any]
    version: str

    def predict(self, pixels: Floats32) -> Floats32:
        """Return the probabilities [n, 10] of images float32 [n, 28, 28] in [0, 1], in the same order."""

    def read(self, pixels: Floats32) -> Reading:
        """Return the same, and whether there is a digit at all."""


@dataclass(frozen=True, slots=True)
class Classified:
    """Results of the first pictures of a batch, in order, and the time of the stages for all of them together."""

    results: list[Outcome | Exception]
    preprocess_ms: float = 0.0
    inference_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Classifier:
    """A model with its preprocessing."""

    model: Model
    max_pixels: int
    method: str = "mnist"

    @property
    def preprocessing(self) -> str:
        """The version of the preprocessing, such as "mnist-5"."""
        return PREPROCESSING_VERSION if self.method == "mnist" else self.method

    def __call__(self, images: Pictures) -> Classified:
        """Classify a batch, or as many of its first pictures as BUDGET_SECONDS allow; at least one.

        A picture that fails has its exception as result; the others are not affected.
        """
        start = time.perf_counter()
        inputs: list[ModelInput | Exception] = []
        known = self._mnist_like(images)
        for at, image in enumerate(images):
            inputs.append(known[at] if at in known else self._model_input(image, METHODS[self.method]))
            if time.perf_counter() - start > BUDGET_SECONDS:
                break
        found = self._read(inputs, start)
        return found if self.method != "mnist" else self._retried(images, inputs, found)

    def _retried(self, images: Pictures, inputs: Sequence[ModelInput | Exception], found: Classified) -> Classified:
        """Normalise pictures by local contrast that were rejected, maybe for uneven light; keep the better outcomes.

        Pictures like MNIST's have even light, and are skipped: of 208 rejected digits of MNIST none gained by it.
        """
        start = time.perf_counter()
        rejected = {
            at: one
            for at, (given, one) in enumerate(zip(inputs, found.results, strict=True))
            if isinstance(one, Outcome) and one.reason in RETRIED and one.decision == "reject"
            if isinstance(given, ModelInput) and not given.mnist_like
        }
        if not rejected:
            return found
        again = self._read([self._model_input(images[at], normalise_uneven) for at in rejected], start)
        for (at, first), one in zip(rejected.items(), again.results, strict=True):
            if isinstance(one, Outcome) and is_better(one, first):
                found.results[at] = one
        spent = found.preprocess_ms + again.preprocess_ms, found.inference_ms + again.inference_ms
        return Classified(found.results, *spent)

    def _read(self, inputs: Sequence[ModelInput | Exception], start: float) -> Classified:
        """Predict and decide; `start` is when the preprocessing of these inputs began."""
        preprocessed = time.perf_counter()
        results: list[Outcome | Exception] = [one for one in inputs if not isinstance(one, ModelInput)]
        readable = [one for one in inputs if isinstance(one, ModelInput)]
        if readable:
            pixels = np.stack([one.pixels for one in readable])
            reading = self.model.read(pixels)
            if reading.probabilities.shape != (len(readable), CLASSES):
                raise AssertionError(f"{len(readable)} pictures gave probabilities {reading.probabilities.shape}")
            found = iter(outcomes(readable, pixels, reading, self.model.card.get("thresholds", {})))
            results = [next(found) if isinstance(one, ModelInput) else one for one in inputs]
        end = time.perf_counter()
        return Classified(results, (preprocessed - start) * 1000, (end - preprocessed) * 1000)

    def _mnist_like(self, images: Pictures) -> dict[int, ModelInput]:
        """Return by position the inputs of pictures like MNIST's: many at once cost little more than one."""
        if self.method != "mnist":
            return {}
        if isinstance(images, np.ndarray):
            return normalise_mnist_like(images)
        files = [image if isinstance(image, bytes) else b"" for image in images]
        positions, greys = decode_plain_pngs(files)
        return {positions[at]: one for at, one in normalise_mnist_like(greys).items()}

    def _model_input(self, image: bytes | Grey, normalise: Callable[[Grey], ModelInput]) -> ModelInput | Exception:
        try:
            if self.method != "mnist":
                return normalise(self._grey(image))
            part = close_up(self._grey(image), lambda: self._grey(image, whole=True))
            found = normalise(part.grey)
            if isinstance(image, bytes) and has_several_frames(image):
                found = found.with_warning("several_frames")
            return found.with_warning("too_small") if part.too_small else found
        except DigitqError as error:
            return error
        except MemoryError:  # the process has reached its memory limit: see `BatchWorker.work`
            raise
        except Exception as error:  # a bug met by one picture must not fail the others
            return error

    def _grey(self, image: bytes | Grey, whole: bool = False) -> Grey:
        return decode(image, max_pixels=self.max_pixels, whole=whole) if isinstance(image, bytes) else image
