"""What lies along the sides of a picture: the lines of the cell or form that it was cut from, and no digit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]

#: A line lies within this part of the picture from its side, since a cell is cut out with some of its neighbours ...
BAND = 0.25
#: ... it is no thicker than this: the stroke of a 1 that is cut tightly is as wide as its picture ...
THICKEST = 0.3
#: ... it leans by at most this much (7 degrees), since a person holds paper and camera nearly straight ...
LEAN = 0.12
#: ... it is as straight as this part of the picture's side, give or take: the side of a round 0 is not ...
STRAIGHT = 0.03
#: ... and it runs from one end to the other but for this part, where it fades or meets another line.
MISSING = 0.15
#: What is left of a part without its lines is no digit if it is less than this share of it.
LEFT = 0.25
#: A piece of a line lies wholly within this part of the picture from its side. It touches the side; or it is so many
#: times as long as thick, and other lines were seen or it runs along so much of the side: a 1 stands further inside.
MARGIN, LONG, MUCH = 0.15, 2, 0.4


def is_edging(part: Mask) -> bool:
    """Whether a part of a picture, bool [H, W], is nothing but straight lines along the sides of the picture, or a
    corner of such lines, which may fade: the middle and one side are free, as with no digit that fills its picture.
    """
    rows, columns = (slice(round(BAND * length), round((1 - BAND) * length)) for length in part.shape)
    met = (
        part[: rows.start, columns],
        part[rows.stop :, columns],
        part[rows, : columns.start],
        part[rows, columns.stop :],
    )
    middle, area = np.count_nonzero(part[rows, columns]), np.count_nonzero(part)
    if middle == 0 and not all(side.any() for side in met):
        return True
    if middle > 2 * LEFT * area:  # a thick line reaches into the middle, though not with half of its ink
        return False
    rest = part.copy()
    for turns in range(4):
        _peel(np.rot90(part, turns), np.rot90(rest, turns))
    return bool(np.count_nonzero(rest) < LEFT * area)


def are_pieces(low: NDArray[np.intp], high: NDArray[np.intp], shape: tuple[int, ...], lined: bool) -> NDArray[np.bool_]:
    """Which boxes [2, n] hold no more than a piece of a line along a side of a picture of this shape.

    `lined` says whether the picture has other lines.
    """
    found = np.zeros(low.shape[1], np.bool_)
    size = high - low
    for axis, other in ((0, 1), (1, 0)):
        length, margin = shape[axis], MARGIN * shape[axis]
        within = (high[axis] <= margin) | (low[axis] >= length - margin)
        touching = (low[axis] == 0) | (high[axis] == length)
        long = size[other] >= LONG * size[axis]
        much = size[other] >= (0 if lined else MUCH * shape[other])
        found |= within & (touching | (long & much))
    return found


def _peel(part: Mask, rest: Mask) -> None:
    """Removes from `rest`, in place, the line that `part` has along the left side; both are bool [H, W]."""
    height, width = part.shape
    band = part[:, : max(3, round(BAND * width))]
    rows = np.flatnonzero(band.any(axis=1))
    if len(rows) < (1 - MISSING) * height:
        return
    first = band[rows].argmax(axis=1)
    ends = np.concatenate([~part[rows], np.ones((len(rows), 1), np.bool_)], axis=1)
    lengths = (ends & (np.arange(width + 1) >= first[:, None])).argmax(axis=1) - first
    thin = lengths <= max(2, THICKEST * width)  # elsewhere another line crosses it
    if np.count_nonzero(thin) < (1 - 2 * MISSING) * height:
        return
    along, middle = rows[thin], first[thin] + (lengths[thin] - 1) / 2
    lean, start = np.polyfit(along, middle, 1)
    off = np.abs(middle - start - lean * along)
    if abs(lean) > LEAN or np.quantile(off, 0.9) > STRAIGHT * width + 0.5:
        return
    for row, left, length in zip(along, first[thin], lengths[thin], strict=True):
        rest[row, left : left + length] = False
