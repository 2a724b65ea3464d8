"""From uploads to outcomes: decode, normalise, stack, predict, decide. Pure: it knows no Redis and no queue."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from shared.errors import DigitqError
from shared.prediction import Outcome
from worker.decoding.decode import decode
from worker.decoding.png import plain
from worker.image.fast import all_seen
from worker.image.ink import Grey
from worker.image.near import near
from worker.image.preprocess import METHODS, PREPROCESSING_VERSION, Seen, evened
from worker.inference.doubts import ruled
from worker.inference.mlp import CLASSES, Reading

#: Confidences from which an answer is taken, and below which it is none; the digitness below which the picture shows no
#: digit. The model's card may say otherwise.
#: A picture that is not like MNIST's may be anything: it needs the digitness `picture`, and `unclear` where ink and
#: ground are hardly apart.
DEFAULT_THRESHOLDS = {"accept": 0.9, "reject": 0.5, "digit": 0.0, "picture": 0.0, "unclear": 0.0}
#: Warnings of the preprocessing that reject a picture whatever the model says: there is nothing to read, or too much.
REJECTING = ("no_ink", "several_digits")
#: Reasons of a rejection that may lie in the light: such a picture is looked at again.
DOUBTFUL = ("no_ink", "not_a_digit", "low_confidence")
#: Warnings with which a straight upright bar may be the line of a cut form or a shadow's edge, and no 1.
FORM = {"touches_border", "lines_removed", "uneven_light"}
#: Warnings with which a part of a stroke may be lost or a shadow be taken for one: the digit has to be as plain as
#: where ink and ground are hardly apart, or somebody has a look.
FAINT = {"low_contrast", "uneven_light"}
#: `Seen.cut` from which only a part is shown, and from which that may be so.
CUT_OFF, CUT_MAYBE = 0.5, 0.2
#: What the outside reads when the fault is ours; the log has the rest.
NOT_CLASSIFIED = "The picture could not be classified."


#: Files, or grey levels of one size: uint8 [n, H, W], 0 black to 255 white.
Pictures = Sequence[bytes | Grey] | NDArray[np.uint8]


class Model(Protocol):
    """What classify needs of a model."""

    card: dict[str, Any]
    version: str

    def predict(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Float32 [n, 28, 28] in [0, 1] to probabilities [n, 10], in the same order."""

    def read(self, pixels: NDArray[np.float32]) -> Reading:
        """The same, and whether there is a digit at all."""


#: Seconds of preprocessing that close a batch: 64 photos of 50 megapixels would hold each other up for minutes.
BUDGET_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Classified:
    """Results of the first pictures of a batch, in their order, and how long the stages took for all of them."""

    results: list[Outcome | Exception]
    preprocess_ms: float = 0.0
    inference_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Classifier:
    """A model with the preprocessing in front of it."""

    model: Model
    max_pixels: int
    method: str = "mnist"

    @property
    def preprocessing(self) -> str:
        """The version of what is done to a picture, such as "mnist-5"."""
        return PREPROCESSING_VERSION if self.method == "mnist" else self.method

    def __call__(self, images: Pictures) -> Classified:
        """Classifies a batch, or as much of it, from its beginning, as the budget of time allows; at least one picture.

        A picture that fails is an exception in its place and costs its neighbours nothing.
        """
        start = time.perf_counter()
        seen: list[Seen | Exception] = []
        known = self._usual(images)
        for at, image in enumerate(images):
            seen.append(known[at] if at in known else self._see(image, METHODS[self.method]))
            if time.perf_counter() - start > BUDGET_SECONDS:
                break
        found = self._read(seen, start)
        return found if self.method != "mnist" else self._looked_again(images, found)

    def _looked_again(self, images: Pictures, found: Classified) -> Classified:
        """The results, with those of a second look in place of rejections that it does not share."""
        start = time.perf_counter()
        doubtful = [
            at
            for at, one in enumerate(found.results)
            if isinstance(one, Outcome) and one.reason in DOUBTFUL and one.decision == "reject"
        ]
        if not doubtful:
            return found
        again = self._read([self._see(images[at], evened) for at in doubtful], start)
        for at, one in zip(doubtful, again.results, strict=True):
            if isinstance(one, Outcome) and (one.decision != "reject" or _is_truer(one, found.results[at])):
                found.results[at] = one
        spent = found.preprocess_ms + again.preprocess_ms, found.inference_ms + again.inference_ms
        return Classified(found.results, *spent)

    def _read(self, seen: Sequence[Seen | Exception], start: float) -> Classified:
        """Outcomes of what was seen from `start` on."""
        preprocessed = time.perf_counter()
        results: list[Outcome | Exception] = [one for one in seen if not isinstance(one, Seen)]
        readable = [one for one in seen if isinstance(one, Seen)]
        if readable:
            pixels = np.stack([one.pixels for one in readable])
            found = iter(self._outcomes(readable, pixels, self.model.read(pixels)))
            results = [next(found) if isinstance(one, Seen) else one for one in seen]
        end = time.perf_counter()
        return Classified(results, (preprocessed - start) * 1000, (end - preprocessed) * 1000)

    def _usual(self, images: Pictures) -> dict[int, Seen]:
        """By position, those that are like MNIST's already: many at once cost little more than one."""
        if self.method != "mnist":
            return {}
        if isinstance(images, np.ndarray):
            return all_seen(images)
        files = [image if isinstance(image, bytes) else b"" for image in images]
        positions, greys = plain(files)
        return {positions[at]: seen for at, seen in all_seen(greys).items()}

    def _see(self, image: bytes | Grey, look: Callable[[Grey], Seen]) -> Seen | Exception:
        try:
            if self.method != "mnist":
                return look(self._grey(image))
            part = near(self._grey(image), lambda: self._grey(image, whole=True))
            seen = look(part.grey)
            return seen.warned_of("too_small") if part.too_small else seen
        except DigitqError as error:
            return error
        except MemoryError:  # the process has reached its bound: see `BatchWorker.work`
            raise
        except Exception as error:  # one picture that meets a bug of ours must not fail the others
            return error

    def _grey(self, image: bytes | Grey, whole: bool = False) -> Grey:
        return decode(image, max_pixels=self.max_pixels, whole=whole) if isinstance(image, bytes) else image

    def _outcomes(self, seen: Sequence[Seen], pixels: NDArray[np.float32], reading: Reading) -> list[Outcome]:
        probabilities = reading.probabilities
        if probabilities.shape != (len(seen), CLASSES):
            raise AssertionError(f"{len(seen)} pictures gave probabilities of shape {probabilities.shape}")
        thresholds = {**DEFAULT_THRESHOLDS, **self.model.card.get("thresholds", {})}
        inputs = np.rint(pixels * 255).astype(np.uint8)
        digits, digitness = probabilities.argmax(axis=1).tolist(), reading.digitness.tolist()
        in_picture, if_unclear = (
            {**thresholds, "digit": max(thresholds["digit"], thresholds[name])} for name in ("picture", "unclear")
        )
        slashes = self._slashes(seen, pixels, digits)
        outcomes = []
        for at, (one, digit, row, is_digit, input) in enumerate(
            zip(seen, digits, probabilities.tolist(), digitness, inputs, strict=True)
        ):
            needed = thresholds if one.usual else in_picture if one.clear else if_unclear
            decision, reason = decide(row[digit], is_digit, one.warnings, needed)
            faint = is_digit < thresholds["unclear"] and FAINT.intersection(one.warnings)
            if decision == "accept" and (faint or at in slashes or not _is_whole(one.cut, row[digit], thresholds)):
                decision, reason = "review", "low_confidence"
            outcomes.append(
                Outcome(digit, row[digit], tuple(row), decision, one.warnings, input.tobytes(), reason, is_digit)
            )
        return outcomes

    @staticmethod
    def _slashes(seen: Sequence[Seen], pixels: NDArray[np.float32], digits: Sequence[int]) -> set[int]:
        """The positions of what is read as a 1 and may be a slash, or a line of a form where there are signs of one.

        MNIST's own digits are not looked at: there are no slashes among them.
        """
        ones = [at for at, (one, digit) in enumerate(zip(seen, digits, strict=True)) if digit == 1 and not one.usual]
        if not ones:
            return set()
        upright = np.array([bool(FORM & set(seen[at].warnings)) for at in ones])
        return {at for at, is_ruled in zip(ones, ruled(pixels[ones], upright), strict=True) if is_ruled}


def _is_whole(cut: float, confidence: float, thresholds: Mapping[str, float]) -> bool:
    """Whether what may run off its picture (`Seen.cut`) is accepted: what is left of an 8 may be a fine 6.

    It is allowed a quarter of the doubt that others are: drawn displays that were cut reached 0.995, most cells more
    than 0.998.
    """
    if cut > CUT_OFF:
        return False
    return cut <= CUT_MAYBE or 1 - confidence <= (1 - thresholds["accept"]) / 4


def _is_truer(again: Outcome, first: Outcome | Exception) -> bool:
    """Whether a second look has a better reason to reject: clear ink, where the first saw none for shadows or lines."""
    blank = isinstance(first, Outcome) and first.reason == "no_ink"
    return blank and not {"no_ink", "low_contrast"} & set(again.warnings)


def decide(
    confidence: float, digitness: float, warnings: Sequence[str], thresholds: Mapping[str, float]
) -> tuple[str, str | None]:
    """`accept`, `review` or `reject`, and why: None for what is accepted. See `DEFAULT_THRESHOLDS`.

    What the preprocessing has noticed comes first: it says more than that the model takes the result for no digit.
    """
    for warning in REJECTING:
        if warning in warnings:
            return "reject", warning
    if digitness < thresholds["digit"]:
        return "reject", "not_a_digit"
    if confidence < thresholds["reject"]:
        return "reject", "low_confidence"
    sure = confidence >= thresholds["accept"] and "too_small" not in warnings
    return ("accept", None) if sure else ("review", "low_confidence")
