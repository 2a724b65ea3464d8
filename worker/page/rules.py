"""Removes ruling, the lines of squared paper, frames and long underlines from the ink of a page."""

from __future__ import annotations

import numpy as np

from worker.image.arrays import Ints, Mask
from worker.page.opencv import opencv

#: A line is at most this thick, in strokes of the page, or LEAST_THICK pixels ...
THICK, LEAST_THICK = 1.6, 4
#: ... and at least this long, in pixels a pixel of thickness, and as a share of the page's longer side.
LONG, LEAST_SHARE = 25, 0.12


def without_rules(mask: Mask, stroke: float) -> tuple[Mask, Mask]:
    """Return the mask, bool [H, W], without thin long lines that are nearly level or upright, and these lines.

    Strokes that cross a line stay whole: only runs across the line that are about as short as it is thick are removed.
    """
    across = _level_lines(mask, stroke)
    down = _level_lines(np.ascontiguousarray((mask & ~across).T), stroke).T
    lines = across | down
    return mask & ~lines, lines


def _level_lines(mask: Mask, stroke: float) -> Mask:
    """Return the pixels of long lines from left to right."""
    cv = opencv()
    thick = round(max(LEAST_THICK, THICK * stroke))
    thin = _short_runs(mask, thick)
    gap = 2 * thick + 1
    joined = cv.morphologyEx(thin.view(np.uint8), cv.MORPH_CLOSE, np.ones((1, gap), np.uint8))
    count, labels, stats, _ = cv.connectedComponentsWithStats(joined, connectivity=8, ltype=cv.CV_32S)
    width, height, area = stats[:, cv.CC_STAT_WIDTH], stats[:, cv.CC_STAT_HEIGHT], stats[:, cv.CC_STAT_AREA]
    mean = area / np.maximum(width, 1)  # the thickness
    long = (width >= LONG * np.maximum(mean, 1)) & (width >= LEAST_SHARE * max(mask.shape)) & (width > 1.6 * height)
    long[0] = False
    found: Mask = long[labels] & thin
    return found


def _short_runs(mask: Mask, longest: int) -> Mask:
    """Return the pixels whose vertical run is at most `longest` pixels: those that an opening by more removes."""
    cv = opencv()
    kernel = np.ones((longest + 1, 1), np.uint8)
    opened = cv.morphologyEx(mask.view(np.uint8), cv.MORPH_OPEN, kernel, borderType=cv.BORDER_CONSTANT, borderValue=0)
    found: Mask = mask & (opened == 0)
    return found
