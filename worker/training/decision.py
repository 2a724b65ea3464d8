"""The thresholds on a model's card, chosen from answers to images that it was not trained on. Pure NumPy."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from worker.training.measures import Bools, operating_points

#: The share of accepted answers that may be wrong.
RISK = 0.001
#: The share of rejected answers that have to be wrong: below, a guess is as good.
WRONG = 0.5
#: The share of pictures of digits that may be refused as none. The pictures drawn for training are harder to read than
#: people's: where this many of them are refused, hardly one in two hundred of MNIST's held-out digits is.
REFUSED = 0.025
#: The same where it is not like MNIST's, and where besides ink and ground are hardly apart: what people photograph is
#: easier to read than what is drawn here, and what is no digit comes as such pictures.
REFUSED_PICTURES, REFUSED_UNCLEAR = 0.048, 0.17
#: The digitness of a picture that may as well be one as not.
EVEN = 0.5
#: A confidence that no answer reaches.
NEVER = 1.1

Floats = NDArray[np.floating]


def thresholds(
    confidences: Floats, right: Bools, digitness: Floats, nondigits: Floats | None = None
) -> dict[str, float]:
    """What a card has: `accept`, `reject`, `digit`, `picture` and `unclear`, for `worker.inference.decision.decide`.

    `confidences` [n] and whether the answer was `right` [n]; the `digitness` [m] of pictures of digits, and that of
    pictures of none, `nondigits` [k], if there are any.
    """
    reject = reject_below(confidences, right)
    accept = max(accept_from(confidences, right), reject)
    return {
        "accept": accept,
        "reject": reject,
        "digit": digit_from(digitness, nondigits),
        "picture": digit_from(digitness, nondigits, REFUSED_PICTURES),
        "unclear": digit_from(digitness, nondigits, REFUSED_UNCLEAR),
    }


def accept_from(confidences: Floats, right: Bools, risk: float = RISK) -> float:
    """The lowest confidence from which at most so large a share of the answers is wrong; `NEVER` if there is none.

    A share of 0.001 stands on few errors: of 5,000 answers five may be wrong, and another 5,000 might have had ten.
    """
    curve = operating_points(confidences.astype(np.float64), right)
    return min((point.threshold for point in curve if point.risk <= risk), default=NEVER)


def reject_below(confidences: Floats, right: Bools, wrong: float = WRONG) -> float:
    """The highest confidence below which at least so large a share of the answers is wrong; 0 if there is none."""
    # The same curve from the other end: the least sure answers first.
    curve = operating_points(-confidences.astype(np.float64), right)
    least_sure = [-point.threshold for point in curve if point.risk >= wrong]
    return math.nextafter(max(least_sure), math.inf) if least_sure else 0.0


def digit_from(digits: Floats, nondigits: Floats | None = None, refused: float = REFUSED) -> float:
    """The highest digitness below which at most so large a share of `digits` [m] lies; 0 if there are none.

    With `nondigits` [k] it is no higher than it takes to refuse as many of them: half way to the last one below, so
    that pictures unlike those that it was chosen with have room. Without any nothing asks for more than a half.
    """
    if not len(digits):
        return 0.0
    highest = float(np.sort(digits)[math.floor(refused * len(digits))])
    if nondigits is None or not len(nondigits):
        return min(highest, EVEN)
    below = nondigits[nondigits < highest]
    return (highest + float(below.max(initial=0.0))) / 2
