"""Decides what to do with a prediction: accept it, have a person review it, or reject the picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from shared.prediction import Outcome
from worker.image.arrays import Floats32
from worker.image.model_input import ModelInput
from worker.inference.mlp import Reading
from worker.inference.straight_strokes import are_straight_strokes

#: `accept`: least confidence of an accepted answer; `reject`: least confidence of any answer; `digit`: least digitness.
#: A picture that is not like MNIST's may show anything and needs the digitness `picture`, or `unclear` if ink and
#: background are hardly apart. The model's card overrides these.
DEFAULT_THRESHOLDS = {"accept": 0.9, "reject": 0.5, "digit": 0.0, "picture": 0.0, "unclear": 0.0}
#: Warnings that reject a picture whatever the model says: there is nothing to read, or too much.
REJECTING = ("no_ink", "several_digits")
#: Reasons of a rejection that may be due to uneven light: the picture is then normalised by local contrast too.
RETRIED = ("no_ink", "not_a_digit", "low_confidence")
#: Warnings with which an upright straight bar may be a line of a cut form, or the edge of a shadow, instead of a 1.
FORM = {"touches_border", "lines_removed", "uneven_light"}
#: Warnings with which a part of a stroke may be lost, or a shadow taken for one: the digitness `unclear` is needed.
FAINT = {"low_contrast", "uneven_light"}
#: With more `ModelInput.cut` only a part of a digit is shown; with more than CUT_MAYBE that may be so.
CUT_OFF, CUT_MAYBE = 0.5, 0.2


def outcomes(
    inputs: Sequence[ModelInput], pixels: Floats32, reading: Reading, thresholds: Mapping[str, float]
) -> list[Outcome]:
    """Decide on n pictures, given their inputs, the inputs' pixels float32 [n, 28, 28], and the model's reading.

    `thresholds` override `DEFAULT_THRESHOLDS`.
    """
    limits = {**DEFAULT_THRESHOLDS, **thresholds}
    in_picture, if_unclear = (
        {**limits, "digit": max(limits["digit"], limits[name])} for name in ("picture", "unclear")
    )
    seen, size = np.rint(pixels * 255).astype(np.uint8).tobytes(), pixels[0].size
    digits, digitness = reading.probabilities.argmax(axis=1).tolist(), reading.digitness.tolist()
    strokes = _possible_lines(inputs, pixels, digits)
    found = []
    for at, (one, row, is_digit) in enumerate(zip(inputs, reading.probabilities.tolist(), digitness, strict=True)):
        digit, confidence = digits[at], row[digits[at]]
        needed = limits if one.mnist_like else in_picture if one.clear else if_unclear
        decision, reason = decide(confidence, is_digit, one.warnings, needed)
        faint = is_digit < limits["unclear"] and FAINT.intersection(one.warnings)
        if decision == "accept" and (faint or at in strokes or not _is_complete(one.cut, confidence, limits)):
            decision, reason = "review", "low_confidence"
        shown = seen[at * size : (at + 1) * size]
        found.append(Outcome(digit, confidence, tuple(row), decision, one.warnings, shown, reason, is_digit))
    return found


def decide(
    confidence: float, digitness: float, warnings: Sequence[str], thresholds: Mapping[str, float]
) -> tuple[str, str | None]:
    """Return `accept`, `review` or `reject`, and the reason: None if accepted. See `DEFAULT_THRESHOLDS`.

    Warnings of the preprocessing come first: they say more than that the model sees no digit.
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


def is_better(again: Outcome, first: Outcome) -> bool:
    """Tell whether the outcome of a second normalisation replaces the first, a rejection.

    It does if it is no rejection, or has a better reason: clear ink, where the first found none for shadows or lines.
    """
    if again.decision != "reject":
        return True
    return first.reason == "no_ink" and not {"no_ink", "low_contrast"} & set(again.warnings)


def _possible_lines(inputs: Sequence[ModelInput], pixels: Floats32, digits: Sequence[int]) -> set[int]:
    """Return the positions of 1s that may be a slash or, where there are signs of one, a line of a form.

    MNIST's own digits are skipped: there are no slashes among them.
    """
    ones = [at for at, (one, digit) in enumerate(zip(inputs, digits, strict=True)) if digit == 1 and not one.mnist_like]
    if not ones:
        return set()
    upright = np.array([bool(FORM & set(inputs[at].warnings)) for at in ones])
    found = are_straight_strokes(pixels[ones], upright)
    return {at for at, straight in zip(ones, found, strict=True) if straight}


def _is_complete(cut: float, confidence: float, thresholds: Mapping[str, float]) -> bool:
    """Tell whether a digit that may be cut off (`ModelInput.cut`) is accepted: what is left of an 8 may be a fine 6.

    It may have a quarter of the doubt allowed to others: drawn displays that were cut reached 0.995, most cells more
    than 0.998.
    """
    if cut > CUT_OFF:
        return False
    return cut <= CUT_MAYBE or 1 - confidence <= (1 - thresholds["accept"]) / 4
