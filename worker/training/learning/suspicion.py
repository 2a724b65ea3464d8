"""Finds corrections that are probably wrong: the model contradicts them, and so does one that learnt from the others.

A correction contradicts the model in service, that is its use. If it is right, a model that has learnt from other
corrections finds it at least possible. Where a model sees no digit at all, a correction is seldom wrong: the digit was
badly cut out, or hangs on a line. Nor is it wrong where a person sees none: a part of a letter or sign that was cut
out of a page may look like a digit. Labels are judged by models that never saw them: "confident learning" by
cross-validation, C. Northcutt, L. Jiang, I. Chuang, J. Artif. Intell. Res. 70 (2021) 1373-1411.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.errors import DigitqError
from worker.inference.mlp import Reading
from worker.training.data.idx import Labels
from worker.training.learning.corrections import Correction
from worker.training.pages.crop_truth import NONDIGIT

#: A label is suspicious if both models give it a smaller probability, and read one and the same digit.
IMPOSSIBLE = 0.01
#: The share of such labels among those of honest people: of some 150 of eight sources, half of them mistakes, seven are
#: suspicious. With a fifth of the labels replaced they are three of 28 or more.
HONEST = 0.04
#: Nothing is learnt with this number of suspicious labels or more, if honest people have as many with at
#: most this probability.
FEWEST, CHANCE = 3, 0.1
#: From this digitness on a model sees a digit.
EVEN = 0.5
FILE = "suspicious.csv"
COLUMNS = ("path", "left", "top", "width", "height", "label", "old_reads", "old_allows", "new_reads", "new_allows")


class SuspiciousCorrections(DigitqError):
    """Too many labels are impossible for the model in service and for one that learnt from the other corrections."""

    code, title = "suspicious_corrections", "The corrections contradict each other"


def probabilities(reading: Reading, labels: Labels) -> NDArray[np.float64]:
    """Return the probability float64 [n] that a model gives to each label, also to there being no digit."""
    digit = labels != NONDIGIT
    share = reading.probabilities[np.arange(len(labels)), np.where(digit, labels, 0)]
    found = np.where(digit, share * reading.digitness, 1 - reading.digitness)
    return np.asarray(found, np.float64)


def too_many(suspicious: int, of: int) -> bool:
    """Tell whether honest people hardly give this number of suspicious labels: an exact binomial test."""
    ways = (math.lgamma(of + 1) - math.lgamma(k + 1) - math.lgamma(of - k + 1) for k in range(suspicious))
    odds = (k * math.log(HONEST) + (of - k) * math.log(1 - HONEST) for k in range(suspicious))
    return suspicious >= FEWEST and 1 - sum(map(math.exp, map(sum, zip(ways, odds, strict=True)))) <= CHANCE


def check(corrections: Sequence[Correction], old: Reading, new: Reading, folder: Path) -> NDArray[np.bool_]:
    """Return which corrections are suspicious, and list those in a file of the folder.

    `new` are the readings of models that did not learn from the correction in question. Raises `SuspiciousCorrections`
    if they are `too_many`.
    """
    labels = np.array([one.label for one in corrections], np.uint8)
    allowed = [probabilities(reading, labels) for reading in (old, new)]
    reads = [_read(reading) for reading in (old, new)]
    same = (reads[0] == reads[1]) & (reads[0] != NONDIGIT)
    digit = labels != NONDIGIT
    found: NDArray[np.bool_] = (np.maximum(*allowed) < IMPOSSIBLE) & same & digit
    path = folder / FILE
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for at in np.flatnonzero(found).tolist():
            one, digits = corrections[at], [_text(int(reading[at])) for reading in reads]
            values = [f"{values[at]:.2g}" for values in allowed]
            writer.writerow(
                [one.picture, *(one.box or [""] * 4), _text(one.label), digits[0], values[0], digits[1], values[1]]
            )
    if too_many(int(found.sum()), of := int(digit.sum())):
        raise SuspiciousCorrections(
            f"{found.sum()} of {of} labels seem wrong, of honest ones {HONEST:.0%} do: look at {path}, and correct them"
        )
    return found


def _read(reading: Reading) -> NDArray[np.intp]:
    return np.where(reading.digitness >= EVEN, reading.probabilities.argmax(axis=1), NONDIGIT)


def _text(label: int) -> str:
    return "none" if label == NONDIGIT else str(label)
