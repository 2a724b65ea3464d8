"""Chooses the thresholds on a model's card, from its answers to held-out images. Pure NumPy."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from worker.training.evaluation.measures import Bools, operating_points

#: The share of accepted answers that may be wrong.
RISK = 0.001
#: The least share of rejected answers that are wrong: if fewer are, a guess is as good.
WRONG = 0.5
#: The share of pictures of digits that may be rejected as non-digits. The pictures drawn for training are harder than
#: people's: where this many of them are rejected, hardly one in two hundred of MNIST's held-out digits is.
REFUSED = 0.025
#: The same for pictures unlike MNIST's, and for those in which ink and background are hardly apart: people's photos are
#: easier than the drawn pictures, and non-digits are such pictures. Of the held-out non-digits 3.3 % pass like that.
REFUSED_PICTURES, REFUSED_UNCLEAR = 0.04, 0.17
#: The thresholds of the digitness.
REFUSING = ("digit", "picture", "unclear")
#: The digitness of a picture that is as likely a digit as not.
EVEN = 0.5
#: A confidence that no answer reaches.
NEVER = 1.1

Floats = NDArray[np.floating]


def thresholds(
    confidences: Floats, right: Bools, digitness: Floats, nondigits: Floats | None = None
) -> dict[str, float]:
    """Choose `accept`, `reject`, `digit`, `picture` and `unclear` of a card; see `worker.inference.decision`.

    From `confidences` [n] and whether the answers were `right` [n]; from the `digitness` [m] of pictures of digits and
    that of non-digits, `nondigits` [k], if there are any.
    """
    # Few held-out answers are wrong, so that a handful of them might reject calibrated answers that are likely right.
    reject = min(reject_below(confidences, right), WRONG)
    accept = max(accept_from(confidences, right), reject)
    return {
        "accept": accept,
        "reject": reject,
        "digit": digit_from(digitness, nondigits),
        "picture": digit_from(digitness, nondigits, REFUSED_PICTURES),
        "unclear": digit_from(digitness, nondigits, REFUSED_UNCLEAR),
    }


def refusing(nondigits: Floats, passed: int) -> float:
    """Return the least digitness from which at most `passed` of the `nondigits` [k] lie."""
    highest = np.sort(nondigits)[::-1]
    # The next number of their own type: between two of float32 a threshold would be rounded down.
    return float(np.nextafter(highest[passed], highest.dtype.type(2))) if passed < len(highest) else 0.0


def accept_from(confidences: Floats, right: Bools, risk: float = RISK) -> float:
    """Return the lowest confidence from which at most the share `risk` of answers is wrong; `NEVER` if there is none.

    A share of 0.001 rests on few errors: five of 5,000 answers may be wrong, and another 5,000 might have had ten.
    """
    curve = operating_points(confidences.astype(np.float64), right)
    return min((point.threshold for point in curve if point.risk <= risk), default=NEVER)


def reject_below(confidences: Floats, right: Bools, wrong: float = WRONG) -> float:
    """Return the highest confidence below which at least the share `wrong` of answers is wrong; 0 if there is none."""
    # The same curve from the other end: the least sure answers first.
    curve = operating_points(-confidences.astype(np.float64), right)
    least_sure = [-point.threshold for point in curve if point.risk >= wrong]
    return math.nextafter(max(least_sure), math.inf) if least_sure else 0.0


def digit_from(digits: Floats, nondigits: Floats | None = None, refused: float = REFUSED) -> float:
    """Return the highest digitness below which at most the share `refused` of `digits` [m] lies; 0 without digits.

    With `nondigits` [k] it is lowered half way to the next one below, which rejects as many of them and leaves room for
    pictures unlike these. Without any it is at most a half.
    """
    if not len(digits):
        return 0.0
    highest = float(np.sort(digits)[math.floor(refused * len(digits))])
    if nondigits is None or not len(nondigits):
        return min(highest, EVEN)
    below = nondigits[nondigits < highest]
    return (highest + float(below.max(initial=0.0))) / 2
