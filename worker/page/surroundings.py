"""Measures what stands around a digit: other ink, the level of its own, the rest of the mark that it was cut off."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

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
#: Parts of candidates with at least this digitness belong to a digit.
SURE = 0.6


class Seen(NamedTuple):
    """A candidate that was chosen as a digit."""

    candidate: Candidate
    digit: int
    digitness: float
    probability: float  # of the digit, given that it is one
    #: Whether it is a 1 as straight as print, or a 0 as wide as high: perhaps a slash, a bracket, a line, a bubble.
    plain: bool = False


class Surroundings(NamedTuple):
    """The clutter around a digit, and how it was cut off other ink."""

    #: What clutter and faint ink cost, in log odds.
    clutter: float
    #: The share of the ink of its marks that belongs to no digit, if it was cut off one, as off a letter.
    broken: float
    #: Whether it touches the border of the picture.
    edge: bool


def surroundings(layout: Layout, row: Row, seen: Sequence[Seen]) -> list[Surroundings]:
    """Return what stands around each of the digits of a row."""
    height, width = layout.level.shape
    taken = {at for one in seen if one.digitness >= SURE for at in range(one.candidate.start, one.candidate.stop)}
    rest = _broken(row, taken)
    found = []
    for one in seen:
        clutter, level = clutter_around(layout, row, one.candidate)
        cost = CLUTTER_COST * max(0.0, clutter - CLEAN) + FAINT_COST * max(0.0, FAINT - level)
        own = {part.mark for part in row.parts[one.candidate.start : one.candidate.stop]}
        broken = max(rest[mark] for mark in own) if one.candidate.cut_off else 0.0
        left, top, across, down = one.candidate.box
        edge = left <= 1 or top <= 1 or left + across >= width - 1 or top + down >= height - 1
        found.append(Surroundings(cost, broken, edge))
    return found


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


def _broken(row: Row, taken: set[int]) -> dict[int, float]:
    """Return for each mark of a row the share of its ink that is not in the parts `taken`."""
    whole: dict[int, int] = {}
    rest: dict[int, int] = {}
    for at, part in enumerate(row.parts):
        whole[part.mark] = whole.get(part.mark, 0) + part.area
        rest[part.mark] = rest.get(part.mark, 0) + part.area * (at not in taken)
    return {mark: rest[mark] / max(area, 1) for mark, area in whole.items()}
