"""Weighs what a digit looks like against what stands beside it: a digit among letters or texture is seldom one.

The log odds that a digit is right are a weighted sum of what is measured of it and of the other marks of its word, its
line and its page. The weights are those of a logistic regression, see `benchmarks/context.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from shared.numbers import Box
from worker.image.arrays import Floats64, Ints
from worker.page.candidates import Row
from worker.page.context_weights import WEIGHTS
from worker.page.layout import Layout
from worker.page.surroundings import Seen, Surroundings, surroundings

#: What a mark looks like: a digit from 2 to 9, hardly less clearly one, a 0 or 1 (or an O, l, s bubble), a digit cut
#: off a mark, a bar or ring, a poor digit, none.
LOOKS = ("sure", "clear", "round", "cut", "plain", "weak", "other")
SURE, CLEAR, ROUND, CUT, PLAIN, WEAK, OTHER = range(len(LOOKS))
#: The digitness, after what clutter costs, from which a mark is sure, clear, and weak.
SURELY, CLEARLY, HARDLY = 0.997, 0.95, 0.5
#: Other marks on a page are not needed to tell what is a digit if this share of its digits is sure or clear, and none
#: weak, or of many less than this share. If it takes round ones for the first, they may be letters: then no digit is
#: surer than MAYBE without its neighbours, which is left to review.
CLEARLY_DIGITS, POOR, MAYBE = 0.5, 0.02, 0.9
#: With more than this share of its mark left a digit that was cut off is weak.
BROKEN = 0.1
#: What is no digit counts as a mark if it is at least this many digit heights high.
LETTER = 0.55
#: A gap of this many digit heights ends a word.
WORD_GAP = 0.6
#: Log odds of digitness are limited to these, those of a mark that is no digit are NONE.
LEAST, MOST, NONE = -8.0, 9.0, -4.0
#: What is measured of the digit itself, and of its neighbours: shares of each look, how many they are, their mean log
#: odds, and how much their heights differ. The shares are those of this many more neighbours: few tell little.
OWN = ("always", "digitness", "height", "low", "clutter", "broken", "cut", "cut 1", "edge", "class")
BESIDE = (*LOOKS, "count", "digitness", "height")
SCOPES = {"word": 1.0, "line": 2.0, "page": 3.0}
#: The names of all that is measured, in order.
FEATURES = (*OWN, *(f"is {digit}" for digit in range(10)), *(f"{scope} {name}" for scope in SCOPES for name in BESIDE))
_WEIGHTS = np.array([WEIGHTS[name] for name in FEATURES])


class Mark(NamedTuple):
    """A digit or another mark, as its neighbours count it."""

    box: Box
    row: int
    look: int
    logit: float
    off: float  # the square of the logarithm of its height in digit heights, at most 1
    counts: bool


def confidences(layout: Layout, rows: Sequence[Sequence[Seen]]) -> list[list[float]]:
    """Return for each digit of each row the probability that it is right.

    On a page of several digits that all are clear by themselves, it is at least the model's own: few neighbours tell
    little.
    """
    measured = features(layout, rows)
    chances = 1 / (1 + np.exp(-measured @ _WEIGHTS))
    own = np.array([one.digitness * one.probability for row in rows for one in row])
    found = iter(np.maximum(chances, np.minimum(own, _most(measured))).tolist())
    return [[next(found) for _ in row] for row in rows]


def _most(measured: Floats64) -> float:
    """Return how sure the model alone may be of a digit: not at all unless all marks on the page are clear digits.

    There must be at least two of them.
    """
    every = len(measured) - 1
    if every < 1:
        return 0.0
    others = np.expm1(3 * measured[:, FEATURES.index("page count")])
    sure, clear, round_, weak, other = (
        measured[:, FEATURES.index(f"page {name}")] * (others + SCOPES["page"])
        for name in ("sure", "clear", "round", "weak", "other")
    )
    if not np.allclose(others, every) or (weak + other).max() >= max(0.5, POOR * every):
        return 0.0
    if (sure + clear).max() >= CLEARLY_DIGITS * every:
        return 1.0
    return MAYBE if (sure + clear + round_).max() >= CLEARLY_DIGITS * every else 0.0


def features(layout: Layout, rows: Sequence[Sequence[Seen]]) -> Floats64:
    """Return what is measured of each digit, row by row: float64 [n, len(FEATURES)]."""
    digits: list[Mark] = []
    others: list[Mark] = []
    own: list[list[float]] = []
    for at, (row, seen) in enumerate(zip(layout.rows, rows, strict=True)):
        for one, around in zip(seen, surroundings(layout, row, seen), strict=True):
            digits.append(_digit(at, row, one, around))
            own.append(_own(row, one, around))
        others += _others(at, row, seen)
    if not digits:
        return np.empty((0, len(FEATURES)))
    marks = digits + others
    gaps = [WORD_GAP * row.height for row in layout.rows]
    scopes = _words(marks, gaps), np.array([mark.row for mark in marks], np.intp), np.zeros(len(marks), np.intp)
    beside = _beside(marks, len(digits), scopes)
    return np.concatenate([np.array(own), beside], axis=1)


def _own(row: Row, one: Seen, around: Surroundings) -> list[float]:
    """Return what is measured of a digit itself."""
    off = math.log(one.candidate.box[3] / row.height)
    cut = float(one.candidate.cut_off)
    return [
        1.0,
        _logit(one.digitness),
        min(4.0, off * off),
        min(1.5, max(0.0, -off)),
        min(4.0, around.clutter / 5),
        around.broken,
        cut,
        cut * (one.digit == 1),
        float(around.edge),
        max(0.0, _logit(one.probability)),
        *(float(one.digit == digit) for digit in range(10)),
    ]


def _digit(at: int, row: Row, one: Seen, around: Surroundings) -> Mark:
    """Return a digit as its neighbours count it."""
    logit = _logit(one.digitness) - around.clutter
    chance = 1 / (1 + math.exp(min(700.0, -logit)))
    if chance < HARDLY:
        look = OTHER
    elif chance < CLEARLY or around.broken > BROKEN:
        look = WEAK
    elif one.candidate.cut_off:
        look = CUT
    elif one.plain:
        look = PLAIN
    elif one.digit < 2:
        look = ROUND
    else:
        look = SURE if chance >= SURELY else CLEAR
    high = one.candidate.box[3] >= LETTER * row.height
    return _mark(one.candidate.box, at, row, look, max(NONE, min(MOST, logit)), look != OTHER or high)


def _others(at: int, row: Row, seen: Sequence[Seen]) -> list[Mark]:
    """Return the marks that are as high as a digit and no part of which was taken for one."""
    taken = {part for one in seen for part in range(one.candidate.start, one.candidate.stop)}
    marks = {row.parts[part].mark for part in taken}
    boxes = [part.box for part in row.parts if part.mark not in marks and part.box[3] >= LETTER * row.height]
    return [_mark(box, at, row, OTHER, NONE, True) for box in boxes]


def _mark(box: Box, at: int, row: Row, look: int, logit: float, counts: bool) -> Mark:
    return Mark(box, at, look, logit, min(1.0, math.log(box[3] / row.height) ** 2), counts)


def _words(marks: Sequence[Mark], gaps: Sequence[float]) -> Ints:
    """Number the words of each row: return that of each mark, int [n]; a gap wider than the row's ends a word."""
    words = np.zeros(len(marks), np.intp)
    word, row, end = -1, -1, 0.0
    for at in sorted(range(len(marks)), key=lambda at: (marks[at].row, marks[at].box)):
        mark = marks[at]
        if mark.row != row or mark.box[0] > end + gaps[row]:
            word, row, end = word + 1, mark.row, -math.inf
        words[at] = word
        end = max(end, mark.box[0] + mark.box[2])
    return words


def _beside(marks: Sequence[Mark], digits: int, scopes: Sequence[Ints]) -> Floats64:
    """Return what is measured of the neighbours of the first marks, which are digits: float64 [digits, 3 x BESIDE]."""
    told = np.zeros((len(marks), len(LOOKS) + 2))
    for at, mark in enumerate(marks):
        if mark.counts:
            told[at, [mark.look, -2, -1]] = 1.0, mark.logit / 4, mark.off
    found = []
    for scope, more in zip(scopes, SCOPES.values(), strict=True):
        sums = np.zeros((int(scope.max()) + 1, told.shape[1]))
        np.add.at(sums, scope, told)
        rest = sums[scope[:digits]] - told[:digits]
        count = rest[:, : len(LOOKS), None].sum(axis=1)
        shares = rest / (count + more)
        found += [shares[:, : len(LOOKS)], np.log1p(count) / 3, shares[:, len(LOOKS) :]]
    return np.concatenate(found, axis=1)


def _logit(chance: float) -> float:
    """Return the log odds of a chance, limited."""
    chance = min(max(chance, 1e-6), 1 - 1e-6)
    return max(LEAST, min(MOST, math.log(chance / (1 - chance))))
