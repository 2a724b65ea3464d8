"""Finds ink that is no digit at a sign's place: a point, comma, dash, slash, plus, bracket between or beside digits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shared.numbers import Box
from worker.image.arrays import Mask
from worker.page.candidates import Candidate, Row
from worker.page.ink import stroke_width
from worker.page.opencv import opencv

#: A sign is at most this many digit heights beside the outer digits of its number, and that far above or below them.
BESIDE, OVER, UNDER = 0.7, 0.1, 0.3
#: Ink that goes on further than this beside them, or above and below, is a line, or stands on another one.
MARGINS = 1.6, 0.6
#: It has at least the area of this many squares as wide as a stroke, is on average at least THIN strokes thick, ...
LEAST, THIN = 0.5, 0.5
#: ... and at most WIDEST digit heights wide. Beside the digits it is at most LOW high (letters are higher), or a plus
#: whose corners, CORNER of its width and height, are inked up to EMPTY, or as a bracket at least HIGH high and NARROW.
WIDEST, LOW, HIGH, NARROW, CORNER = 1.1, 0.55, 1.0, 0.45, 0.25
EMPTY = 0.25
#: What shares more than this part of its columns with a digit belongs to it or crosses it out, unless it is a comma:
#: it begins in the lower half and ends below the digit.
SHARED = 0.5


def taken_marks(labels: NDArray[np.int32], digits: Sequence[tuple[Row, Candidate]]) -> Mask:
    """Return which labels of the ink [H, W] belong to one of the digits, or are paper: bool [labels]."""
    taken = np.zeros(int(labels.max()) + 1, np.bool_)
    taken[0] = True
    for row, one in digits:
        for part in row.parts[one.start : one.stop]:
            left, top, width, height = part.box
            taken[labels[top : top + height, left : left + width][part.mask]] = True
    return taken


def has_sign(labels: NDArray[np.int32], taken: Mask, digits: Sequence[Box]) -> bool:
    """Tell whether there is a sign between or beside the digits of a number: their boxes from left to right."""
    if not digits:
        return False
    height = float(np.median([box[3] for box in digits]))
    margins = [round(margin * height) + 2 for margin in MARGINS]
    left, top = (max(0, min(box[axis] for box in digits) - margins[axis]) for axis in (0, 1))
    right, bottom = (max(box[axis] + box[axis + 2] for box in digits) + margins[axis] for axis in (0, 1))
    view = labels[top:bottom, left:right]
    other: Mask = ~taken[view]
    if not other.any():
        return False
    stroke = stroke_width((view > 0) & ~other)
    _, pieces, stats, _ = opencv().connectedComponentsWithStats(other.view(np.uint8), connectivity=8)
    down, across = view.shape
    for piece, (x, y, width, high, area) in enumerate(stats[1:].tolist(), 1):
        clipped = x == 0 or y == 0 or x + width == across or y + high == down
        if clipped or area < LEAST * stroke**2 or area < THIN * stroke * max(width, high):
            continue
        plus = _is_plus(pieces[y : y + high, x : x + width] == piece)
        if _is_sign((x + left, y + top, width, high), plus, digits, height):
            return True
    return False


def _is_plus(own: Mask) -> bool:
    """Tell whether the corners of the box are almost free of ink, as in a plus and no letter but a t."""
    down, across = (max(1, round(CORNER * side)) for side in own.shape)
    corners = own[np.r_[:down, -down:0]][:, np.r_[:across, -across:0]]
    return bool(corners.reshape(2, down, 2, across).mean(axis=(1, 3)).max() <= EMPTY)


def _is_sign(one: Box, plus: bool, digits: Sequence[Box], height: float) -> bool:
    """Tell whether a piece of ink, perhaps a plus, has the place and the size of a sign."""
    x, y, width, high = one
    middle = x + width / 2
    before = [box for box in digits if box[0] + box[2] / 2 <= middle]
    after = digits[len(before) :]
    near = [*before[-1:], *after[:1]]
    upper, lower = min(box[1] for box in near), max(box[1] + box[3] for box in near)
    if width > WIDEST * height or not upper - OVER * height < y + high / 2 < lower + UNDER * height:
        return False
    for left, top, wide, tall in near:
        shared = min(left + wide, x + width) - max(left, x)
        comma = y > top + tall / 2 and y + high > top + tall
        if shared > SHARED * width and not comma:
            return False
    if before and after:
        return True
    edge, _, wide, _ = near[0]
    gap = x - edge - wide if before else edge - x - width
    bracket = high >= HIGH * height and width <= NARROW * high
    return gap <= BESIDE * height and (high <= LOW * height or plus or bracket)
