"""Weighs what stands around a digit: clean paper, the height of its line, and letters beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from shared.numbers import Box
from worker.image.arrays import Mask
from worker.page.candidates import Candidate, Row, mask_of
from worker.page.layout import Layout
from worker.page.opencv import opencv

#: A digit stands on paper: around it, up to AROUND digit heights, other ink and what the paper lacks of being white
#: come to at most CLEAN, as shares of the area and of the ink's level. Measured on pages: 0.17 for 98 in 100 digits,
#: more for half of what textures show.
AROUND, CLEAN = 0.25, 0.14
#: What more of it costs, in log odds.
CLUTTER_COST = 35.0
#: Ink fainter than this, in 255ths of the light, may be grain or a shadow: each 255th less costs this, in log odds.
FAINT, FAINT_COST = 40, 0.2
#: A part is a letter or sign if it is left out, or has less than this digitness, and is at least this many digit
#: heights high.
SURE, LETTER = 0.6, 0.55
#: A gap of this many digit heights ends a word; each letter more in it than digits costs this, in log odds.
WORD_GAP, LETTER_COST = 0.6, 2.5
#: The costs of a digit cut off a mark that is no digit otherwise, as off a letter, by the share of its ink that is
#: none; of one cut off anything; and of a 1 cut off anything: most letters have an upright stroke.
BROKEN_COST, CUT_COST, CUT_ONE_COST = 6.0, 1.0, 2.5
#: The cost of a 1 on a page where most is no digit: it has the least shape.
ONE_COST = 1.5
#: What the logarithm of letters to digits costs, on the line and on the page: where most are letters, the next one is.
LINE_COST, PAGE_COST = 1.0, 2.0
#: The cost of a height that differs from the line's by this factor, as a logarithm; it grows with the square.
HEIGHT_SPREAD = 0.5


class Seen(NamedTuple):
    """A candidate that was chosen as a digit."""

    candidate: Candidate
    digit: int
    digitness: float
    probability: float  # of the digit, given that it is one


def odds_against(layout: Layout, rows: Sequence[Sequence[Seen]]) -> list[list[float]]:
    """Return for each digit of each row by how much its surroundings lower the log odds that it is one."""
    letters = [_letters(row, seen) for row, seen in zip(layout.rows, rows, strict=True)]
    digits = [sum(one.digitness >= SURE for one in seen) for seen in rows]
    page = PAGE_COST * _majority(sum(map(len, letters)), sum(digits))
    found = []
    for row, seen, some, count in zip(layout.rows, rows, letters, digits, strict=True):
        common = page + LINE_COST * _majority(len(some), count)
        costs = _in_row(layout, row, seen, some)
        found.append(
            [common + cost + ONE_COST * (page > 0 and one.digit == 1) for one, cost in zip(seen, costs, strict=True)]
        )
    return found


def _majority(letters: int, digits: int) -> float:
    """Return the logarithm of letters to digits; 0 if there are no more of them."""
    return max(0.0, math.log((letters + 1) / (digits + 1)))


def _in_row(layout: Layout, row: Row, seen: Sequence[Seen], letters: Sequence[Box]) -> list[float]:
    """Return the same for one row, without what is counted on the whole page."""
    sure = [at for at, one in enumerate(seen) if one.digitness >= SURE]
    words = _words([one.candidate.box for one in seen], sure, letters, WORD_GAP * row.height)
    taken = {at for one in seen if one.digitness >= SURE for at in range(one.candidate.start, one.candidate.stop)}
    broken = _broken(row, taken)
    return [
        LETTER_COST * max(0, others - digits) + _alone(layout, row, one, broken)
        for one, (digits, others) in zip(seen, words, strict=True)
    ]


def _broken(row: Row, taken: set[int]) -> dict[int, float]:
    """Return for each mark of a row the share of its ink that is not in the parts `taken`."""
    whole: dict[int, int] = {}
    rest: dict[int, int] = {}
    for at, part in enumerate(row.parts):
        whole[part.mark] = whole.get(part.mark, 0) + part.area
        rest[part.mark] = rest.get(part.mark, 0) + part.area * (at not in taken)
    return {mark: rest[mark] / max(area, 1) for mark, area in whole.items()}


def _alone(layout: Layout, row: Row, one: Seen, broken: dict[int, float]) -> float:
    """Return what the shape, the paper and the ink of a digit cost, given the shares of marks that are no digits."""
    off = math.log(one.candidate.box[3] / row.height) / HEIGHT_SPREAD
    clutter, level = clutter_around(layout, row, one.candidate)
    cost = off * off + CLUTTER_COST * max(0.0, clutter - CLEAN) + FAINT_COST * max(0.0, FAINT - level)
    if one.candidate.cut_off:
        own = {part.mark for part in row.parts[one.candidate.start : one.candidate.stop]}
        cost += BROKEN_COST * max(broken[mark] for mark in own) + (CUT_ONE_COST if one.digit == 1 else CUT_COST)
    return cost


def clutter_around(layout: Layout, row: Row, candidate: Candidate) -> tuple[float, float]:
    """Return the clutter around a candidate, and the level of its ink in 255ths of the light.

    Clutter is the share of other ink, and the level of the paper as a share of that of the ink.
    """
    cv = opencv()
    margin = max(3, round(AROUND * row.height))
    left, top, width, height = candidate.box
    x, y = max(0, left - margin), max(0, top - margin)
    view = slice(y, top + height + margin), slice(x, left + width + margin)
    ink, level = layout.marks.labels[view] > 0, layout.level[view]
    own = np.zeros(ink.shape, np.bool_)
    own[top - y : top - y + height, left - x : left - x + width] = mask_of(row, candidate)
    paper: Mask = cv.dilate(ink.view(np.uint8), np.ones((5, 5), np.uint8)) == 0
    full = float(np.median(level[own]))
    darkness = float(level[paper].mean()) / max(1.0, full) if paper.any() else 1.0
    return darkness + np.count_nonzero(ink & ~own) / ink.size, full


def _letters(row: Row, seen: Sequence[Seen]) -> list[Box]:
    """Return the boxes of what is as high as a digit and was not taken for one, or hardly."""
    taken = {at for one in seen for at in range(one.candidate.start, one.candidate.stop)}
    marks = {row.parts[at].mark for at in taken}
    left_out = [part.box for at, part in enumerate(row.parts) if at not in taken and part.mark not in marks]
    unsure = [one.candidate.box for one in seen if one.digitness < SURE]
    return [box for box in left_out + unsure if box[3] >= LETTER * row.height]


def _words(digits: Sequence[Box], sure: Sequence[int], letters: Sequence[Box], gap: float) -> list[tuple[int, int]]:
    """Return for each digit how many sure digits, by position, and letters its word has; a wider gap ends it."""
    marks = sorted([(box, at) for at, box in enumerate(digits)] + [(box, -1) for box in letters])
    found = [(0, 0)] * len(digits)
    word: list[int] = []
    end = -math.inf
    for box, at in [*marks, ((10**9, 0, 0, 0), -1)]:
        if box[0] > end + gap:
            count = len(set(word) & set(sure)), word.count(-1)
            for one in word:
                if one >= 0:
                    found[one] = count
            word = []
        word.append(at)
        end = max(end, box[0] + box[2])
    return found
