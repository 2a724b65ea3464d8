"""Labels a crop of a page, and says how far the label is to be trusted, by the ink of the marks in it."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.training.drawing.letters import LOOKALIKES
from worker.training.pages.compose import Mark
from worker.training.pages.marks import RING

#: The label of what is not one digit, as in `bank`.
NONDIGIT = 10
#: A crop shows a digit if it has WHOLE of the digit's ink, and less than FOREIGN of its own is of other marks.
WHOLE, FOREIGN = 0.88, 0.06
#: With less than PART of a digit's ink it is a piece, with less than HALF hardly another digit; between PART and WHOLE
#: people may still read the digit, and it is not learnt.
PART, HALF = 0.7, 0.5
#: With at least MIXED of its ink from another mark a crop is no longer one digit.
MIXED = 0.16
#: A crop may be a 1 if its ink is long and thin, by the ratio of the standard deviations across and along, and leans by
#: less than LEANING degrees.
THIN, LEANING = 0.24, 55
#: With more of its ink from ruling or dirt than this it is not learnt as a digit.
STRAY = 0.2
#: A crop may be a 0 if its ink encloses a hole: at least HOLE of all that it encloses, which is at least SOLID of its
#: hull.
HOLE, SOLID = 0.2, 0.85
#: How far the label is trusted, 0 to 1: of what is surely known, of pieces, of what may be a digit, and of what is like
#: the 0s and 1s that people draw; that is left to what the model knew before.
SURE, PIECE, LIKE, ALIKE = 0.98, 0.8, 0.25, 0.004
#: Signs that are often taken for digits where they stand alone, besides `LOOKALIKES`.
SIGNS_LIKE = frozenset("',;\"°٥٦۵" + RING)


def may_be_one(pixels: NDArray[np.floating]) -> bool:
    """Tell whether the ink, [28, 28], is about a single upright or leaning stroke."""
    rows, columns = np.nonzero(pixels > 0.3)
    if len(rows) < 3:
        return False
    spread, axes = np.linalg.eigh(np.cov(np.stack([rows, columns])))
    down, across = np.abs(axes[:, 1])
    thin = spread[0] < THIN**2 * max(spread[1], 1e-6)
    return bool(thin and np.degrees(np.arctan2(across, down)) < LEANING)


def may_be_zero(pixels: NDArray[np.floating]) -> bool:
    """Tell whether the ink, [28, 28], is about a ring."""
    mask = np.pad((pixels > 0.3).astype(np.uint8), 1)
    # The first component of the paper is outside, the others are holes.
    _, paper, sizes, _ = cv2.connectedComponentsWithStats(1 - mask, connectivity=4)
    if len(sizes) < 3:
        return False
    around = int(paper[0, 0])
    hole = max(int(size) for part, size in enumerate(sizes[:, 4]) if part not in (0, around))
    filled = (paper != around).astype(np.uint8)
    hull = cv2.convexHull(cv2.findNonZero(filled))
    return bool(hole >= HOLE * filled.sum() and filled.sum() >= SOLID * cv2.contourArea(hull))


def trusted(pixels: NDArray[np.floating], label: int, trust: float) -> float:
    """Return the trust in the label of an image [28, 28]: at most ALIKE if it is like a 0 or 1 and said to be none."""
    alike = label == NONDIGIT and (may_be_one(pixels) or may_be_zero(pixels))
    return min(trust, ALIKE) if alike else trust


def truth_of(
    marks: Sequence[Mark], counts: NDArray[np.intp], areas: NDArray[np.intp], ink: tuple[int, float], like_one: bool
) -> tuple[int, float, str, str, bool]:
    """Return label, trust, kind and text of a crop, and whether it is printed.

    `counts` [2, marks + 1] is the ink of each mark in it, `areas` all that these marks have, `ink` its own, and the
    share of that which is off all marks; `like_one` says whether it may be a 1.
    """
    total, stray = ink
    found, whole = counts.sum(axis=0)[1:], areas.sum(axis=0)[1:]
    doubtful = LIKE if like_one else PIECE
    if not found.any() or stray > 0.6:
        return NONDIGIT, doubtful, "paper", "", False
    main = int(found.argmax())
    mark, share = marks[main], found[main] / max(int(whole[main]), 1)
    others = found.copy()
    others[main] = 0
    # Where two marks overlap, both have the ink: it is foreign only as far as there is more than the main one's.
    foreign = min(int(others.sum()), total - int(found[main])) / total
    if foreign >= FOREIGN:
        mixed = foreign >= MIXED and (others.max() >= 0.3 * whole[others.argmax()] or foreign > 0.3)
        return NONDIGIT, doubtful if mixed else 0.0, "several", mark.text, mark.printed
    if share < PART:
        return NONDIGIT, doubtful if share < HALF else LIKE, "piece", mark.text, mark.printed
    return _one_mark(mark, share >= WHOLE and stray < STRAY, like_one)


def _one_mark(mark: Mark, whole: bool, like_one: bool) -> tuple[int, float, str, str, bool]:
    """The truth of a crop that shows one mark alone, or most of it."""
    if mark.kind == "digit":
        return int(mark.text), SURE if whole else 0.0, "digit", mark.text, mark.printed
    like = like_one or mark.text in LOOKALIKES or mark.text in SIGNS_LIKE
    return NONDIGIT, LIKE if like else SURE, "mark", mark.text, mark.printed
