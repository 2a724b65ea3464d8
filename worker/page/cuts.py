"""Cuts wide marks, which may be touching digits, where they are thin.

Heuristic over-segmentation: every likely cut is made, and the reading decides which were wrong (Y. LeCun, L. Bottou,
Y. Bengio, P. Haffner, Gradient-based learning applied to document recognition, Proc. IEEE 86, 1998, 2278-2324,
section VII).
"""

from __future__ import annotations

import numpy as np

from worker.image.arrays import Floats64, Grey, Mask
from worker.page.opencv import opencv

#: Marks narrower than this, in heights of a digit on the line, are not cut.
NARROW = 0.75
#: Cuts are at least this far apart and from the ends, in heights of a digit.
APART = 0.22
#: A cut goes through at most this much ink, in heights of a digit.
DEEPEST = 0.45
#: Seams are found on copies of this height, in pixels.
SEAM_HEIGHT = 40
#: A step of a seam through ink costs this many times as much as one along paper.
INK_COST = 12.0


def cut(mask: Mask, digit_height: float) -> list[Mask]:
    """Cut a mark, bool [h, w], into pieces from left to right, each bool [h, w]; just itself if nothing is thin.

    Cuts are seams from top to bottom through the least ink, by dynamic programming, so that they may lean.
    """
    height, width = mask.shape
    if width < NARROW * digit_height or height < 0.4 * digit_height:
        return [mask]
    cv = opencv()
    scale = min(1.0, SEAM_HEIGHT / digit_height)
    size = max(2, round(width * scale)), max(2, round(height * scale))
    small: Grey = cv.resize(mask.view(np.uint8) * 255, size, interpolation=cv.INTER_AREA)
    ink = small.astype(np.float64) / 255
    unit = digit_height * scale
    seams = _seams(ink, unit)
    if not seams:
        return [mask]
    columns = np.arange(width)[None]
    rows = np.minimum((np.arange(height) * size[1] / height).astype(np.intp), size[1] - 1)
    side = np.zeros(mask.shape, np.intp)
    for seam in seams:
        side += columns >= (seam[rows] * width / size[0])[:, None]
    pieces = [mask & (side == at) for at in range(len(seams) + 1)]
    return [piece for piece in pieces if piece.any()]


def _seams(ink: Floats64, unit: float) -> list[Floats64]:
    """Return the columns [h] of the best seams from left to right, APART digit heights from each other."""
    cost, back = _costs(ink)
    total = cost[-1]
    apart = APART * unit
    found: list[tuple[float, Floats64]] = []
    for end in np.argsort(total, kind="stable").tolist():
        seam = _trace(back, end)
        through = float(ink[np.arange(len(seam)), seam.astype(np.intp)].sum())
        if through > DEEPEST * unit:
            continue
        middle = float(seam.mean())
        if not apart <= middle <= ink.shape[1] - apart:
            continue
        if all(abs(middle - float(other.mean())) >= apart for _, other in found):
            found.append((middle, seam + 0.5))
    return [seam for _, seam in sorted(found, key=lambda one: one[0])]


def _costs(ink: Floats64) -> tuple[Floats64, Floats64]:
    """Return the least cost of a seam from the top to each pixel, and the column above it in that seam."""
    height, width = ink.shape
    step = 1 + INK_COST * ink
    cost, back = np.empty_like(ink), np.zeros_like(ink)
    cost[0] = step[0]
    columns = np.arange(width)
    for row in range(1, height):
        above = np.pad(cost[row - 1], 1, constant_values=np.inf)
        ways = np.stack([above[1:-1], above[:-2] + 0.5, above[2:] + 0.5])
        best = ways.argmin(axis=0)
        cost[row] = ways[best, columns] + step[row]
        back[row] = columns + np.array([0, -1, 1])[best]
    return cost, back


def _trace(back: Floats64, end: int) -> Floats64:
    seam = np.empty(len(back))
    column = end
    for row in range(len(back) - 1, -1, -1):
        seam[row] = column
        column = int(back[row, column])
    return seam
