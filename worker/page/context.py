"""Weighs what stands around a digit: clean paper, the height of its line, and letters beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from shared.numbers import Box
from worker.image.arrays import Mask
from worker.page.candidates import Candidate, Part, Row, mask_of
from worker.page.layout import Layout
from worker.page.opencv import opencv

#: A digit stands on paper: around it, up to AROUND digit heights, other ink and what the paper lacks of being white
#: come to at most CLEAN, as shares of the area and of the ink's level. Measured on pages: 0.17 for 98 in 100 digits,
#: more for half of what textures show.
AROUND, CLEAN = 0.25, 0.12
#: What more of it costs, in log odds.
CLUTTER_COST = 25.0
#: A part is a letter or sign if it is left out and at least this many digit heights high.
LETTER = 0.55
#: A gap of this many digit heights ends a word; each letter more in it than digits costs this, in log odds.
WORD_GAP, LETTER_COST = 0.6, 2.5
#: The share of the logarithm of letters to digits on the page that is a cost.
PAGE_COST = 1.5
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
    digits = sum(len(seen) for seen in rows)
    others = sum(len(some) for some in letters)
    page = PAGE_COST * math.log((others + 1) / (digits + 1)) if others > digits else 0.0
    return [
        [page + one for one in _in_row(layout, row, seen, some)]
        for row, seen, some in zip(layout.rows, rows, letters, strict=True)
    ]


def _in_row(layout: Layout, row: Row, seen: Sequence[Seen], letters: Sequence[Part]) -> list[float]:
    """Return the same for one row, without what is counted on the whole page."""
    words = _words([one.candidate.box for one in seen], [part.box for part in letters], WORD_GAP * row.height)
    found = []
    for one, (digits, others) in zip(seen, words, strict=True):
        box = one.candidate.box
        off = math.log(box[3] / row.height) / HEIGHT_SPREAD
        clutter = max(0.0, clutter_around(layout, row, one.candidate) - CLEAN)
        found.append(off * off + CLUTTER_COST * clutter + LETTER_COST * max(0, others - digits))
    return found


def clutter_around(layout: Layout, row: Row, candidate: Candidate) -> float:
    """Return the share of other ink around a candidate, and the level of the paper as a share of that of its ink."""
    cv = opencv()
    margin = max(3, round(AROUND * row.height))
    left, top, width, height = candidate.box
    x, y = max(0, left - margin), max(0, top - margin)
    view = slice(y, top + height + margin), slice(x, left + width + margin)
    ink, level = layout.ink[view], layout.level[view]
    own = np.zeros(ink.shape, np.bool_)
    own[top - y : top - y + height, left - x : left - x + width] = mask_of(
        row.parts[candidate.start : candidate.stop], candidate
    )
    paper: Mask = cv.dilate(ink.view(np.uint8), np.ones((5, 5), np.uint8)) == 0
    whiteness = float(level[paper].mean()) / max(1.0, float(np.median(level[own]))) if paper.any() else 1.0
    return whiteness + np.count_nonzero(ink & ~own) / ink.size


def _letters(row: Row, seen: Sequence[Seen]) -> list[Part]:
    """Return the parts that are as high as digits and were not taken for any."""
    taken = {at for one in seen for at in range(one.candidate.start, one.candidate.stop)}
    marks = {row.parts[at].mark for at in taken}
    return [
        part
        for at, part in enumerate(row.parts)
        if at not in taken and part.mark not in marks and part.box[3] >= LETTER * row.height
    ]


def _words(digits: Sequence[Box], letters: Sequence[Box], gap: float) -> list[tuple[int, int]]:
    """Return for each digit how many digits and letters its word has; a wider gap ends it."""
    marks = sorted([(box, at) for at, box in enumerate(digits)] + [(box, -1) for box in letters])
    found = [(0, 0)] * len(digits)
    word: list[int] = []
    end = -math.inf
    for box, at in [*marks, ((10**9, 0, 0, 0), -1)]:
        if box[0] > end + gap:
            inside = [one for one in word if one >= 0]
            for one in inside:
                found[one] = (len(inside), len(word) - len(inside))
            word = []
        word.append(at)
        end = max(end, box[0] + box[2])
    return found
