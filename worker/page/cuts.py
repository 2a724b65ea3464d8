"""Cuts wide marks, which may be touching digits, where they are thin.

Heuristic over-segmentation: every likely cut is made, and the reading decides which were wrong (Y. LeCun, L. Bottou,
Y. Bengio, P. Haffner, Gradient-based learning applied to document recognition, Proc. IEEE 86, 1998, 2278-2324,
section VII).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from worker.image.arrays import Floats64, Ints, Mask
from worker.page.ink import stroke_width
from worker.page.opencv import opencv

#: Marks narrower than this, in heights of a digit on the line, are not cut.
NARROW = 0.75
#: Cuts are at least this far apart and from the ends, in heights of a digit.
APART = 0.13
#: A cut is where the mark is low: its extent from top to bottom is at most this share of that on both sides, within
#: AROUND digit heights ...
LOW, AROUND = 0.8, 0.6
#: ... or where it is thin: a column has at most this much ink, in widths of the strokes.
THIN = 1.6
#: What is still WIDE digit heights wide may be digits that overlap: it is also cut along the straight line across the
#: least ink, at most MOST_INK widths of the strokes, that leans to the right by one of these parts of its height and is
#: in its middle MIDDLE digit heights from the ends.
WIDE, MOST_INK, LEANS, MIDDLE = 0.9, 3.2, (-0.15, 0.0, 0.15, 0.3, 0.45, 0.6), 0.3
#: Or they have a stroke in common: what is TWO digit heights wide is split along the line that has the most ink, at
#: least SHARED widths of the strokes.
TWO, SHARED = 1.3, 3.2
#: A cut leaves its column by at most this many digit heights.
CORRIDOR = 0.12
#: Cuts are found on copies in which a digit has this height, in pixels.
COPY_HEIGHT = 40
#: A step of a cut through ink costs this many times as much as one along paper.
INK_COST = 12.0


def cut(mask: Mask, digit_height: float) -> list[Mask]:
    """Cut a mark, bool [h, w], into pieces from left to right, each bool [h, w]; just itself if nothing is low or thin.

    Cuts go from top to bottom through the least ink near their column, by dynamic programming, so that they may lean.
    """
    height, width = mask.shape
    if width < NARROW * digit_height or height < 0.4 * digit_height:
        return [mask]
    cv = opencv()
    scale = min(1.0, COPY_HEIGHT / digit_height)
    size = max(2, round(width * scale)), max(2, round(height * scale))
    ink = cv.resize(mask.view(np.uint8) * 255, size, interpolation=cv.INTER_AREA).astype(np.float64) / 255
    stroke = stroke_width(mask) * scale
    columns = cut_columns(ink, digit_height * scale, stroke)
    across, along = _leaning_cuts(ink, columns, digit_height * scale, stroke)
    lines = [np.full(size[1], at) for at in columns] + across
    if not lines and not along:
        return [mask]
    rows = np.minimum((np.arange(height) * size[1] / height).astype(np.intp), size[1] - 1)
    seams = [*_seams(ink, lines, max(1, round(CORRIDOR * digit_height * scale))), *along]
    side = np.zeros(mask.shape, np.intp)
    for seam in seams:
        side += np.arange(width)[None] >= ((seam[rows] + 0.5) * width / size[0])[:, None]
    pieces = [mask & (side == at) for at in range(len(seams) + 1)]
    return [piece for piece in pieces if piece.any()]


def cut_columns(ink: Floats64, digit_height: float, stroke: float) -> list[int]:
    """Return the columns at which ink, float64 [h, w] in [0, 1], is low or thin, from left to right."""
    used = ink > 0.3
    extent = np.where(used.any(axis=0), len(ink) - used.argmax(axis=0) - used[::-1].argmax(axis=0), 0).astype(float)
    count, apart, width = ink.sum(axis=0), max(1, round(APART * digit_height)), ink.shape[1]
    around = max(2, round(AROUND * digit_height))
    sides = [min(extent[max(0, at - around) : at + 1].max(), extent[at : at + around + 1].max()) for at in range(width)]
    low = extent / np.maximum(sides, 1)
    # Low columns come first: where digits touch, the thinnest ones are beside the place, in the curves of the digits.
    ranks = np.where(low <= LOW, low, np.where(count <= THIN * stroke, 2.0, 9.0))
    ranks += 0.1 * count / max(float(count.max()), 1e-6)  # of two equal ones, the one with less ink
    found: list[int] = []
    for at in np.argsort(ranks, kind="stable").tolist():
        if ranks[at] >= 9:
            break
        if apart <= at < width - apart and all(abs(at - other) >= apart for other in found):
            found.append(at)
    return sorted(found)


def _leaning_cuts(
    ink: Floats64, columns: Sequence[int], digit_height: float, stroke: float
) -> tuple[list[Ints], list[Ints]]:
    """Return straight lines that cut what is wide between `columns`: those across strokes, and along shared ones.

    `ink` is float64 [h, w] in [0, 1], a line a column for each row [h].
    """
    height, width = ink.shape
    wide = [ends for ends in pairwise([0, *columns, width]) if ends[1] - ends[0] >= WIDE * digit_height]
    if not wide:
        return [], []
    cv = opencv()
    middle, margin = (height - 1) / 2, round(MIDDLE * digit_height)
    upright = [cv.warpAffine(ink, np.array([[1, lean, -lean * middle], [0, 1, 0]]), (width, height)) for lean in LEANS]
    inked = np.array([one.sum(axis=0) for one in upright]) / max(stroke, 1e-6)
    across, along = [], []

    def line(place: int, ends: tuple[int, int]) -> tuple[int, Ints]:
        lean, column = divmod(place, ends[1] - ends[0] - 2 * margin)
        column += ends[0] + margin
        return column, np.rint(column + LEANS[lean] * (middle - np.arange(height))).astype(np.intp)

    while wide:
        ends = wide.pop()
        within = inked[:, ends[0] + margin : ends[1] - margin]
        if within.max() >= SHARED and ends[1] - ends[0] >= TWO * digit_height:
            along.append(line(int(within.argmax()), ends)[1])
        if within.min() <= MOST_INK:
            column, found = line(int(within.argmin()), ends)
            across.append(found)
            parts = (ends[0], column), (column, ends[1])
            wide += [part for part in parts if part[1] - part[0] >= WIDE * digit_height]
    return across, along


def _seams(ink: Floats64, centres: Sequence[Ints], reach: int) -> Floats64:
    """Return the cheapest way from top to bottom within `reach` of each of k lines [h]: a column a row [k, h]."""
    height, width = ink.shape
    lines = np.array(centres, np.intp).reshape(-1, height)
    near = lines[:, :, None] + np.arange(-reach, reach + 1)
    step = 1 + INK_COST * ink[np.arange(height)[:, None], near.clip(0, width - 1)]
    step[(near < 0) | (near >= width)] = 1.0
    across = near.shape[2]
    above = np.full((len(lines), across + 2), np.inf)
    back = np.zeros(step.shape, np.intp)
    above[:, 1:-1] = step[:, 0]
    for row in range(1, height):
        best, here = above[:, 1:-1].copy(), back[:, row]
        for move in (-1, 1):
            beside = above[:, 1 + move : across + 1 + move] + 0.5
            here[beside < best] = move
            np.minimum(best, beside, out=best)
        above[:, 1:-1] = best + step[:, row]
    at = above[:, 1:-1].argmin(axis=1)
    each = np.arange(len(lines))
    seams = np.empty((len(lines), height))
    for row in range(height - 1, -1, -1):
        seams[:, row] = near[each, row, at]
        at = at + back[each, row, at]
    return seams
