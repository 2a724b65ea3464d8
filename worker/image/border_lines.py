"""Recognises frames around a picture and lines along its sides: remains of the cell or form that it was cut from."""

from __future__ import annotations

import numpy as np

from worker.image.arrays import Grey, Ints, Mask, border_of

#: A line lies within this share of the picture from its side: a cell is cut out with some of its neighbours ...
BAND = 0.25
#: ... is at most this thick, as a share of the picture: the stroke of a tightly cut 1 is as wide as its picture ...
THICKEST = 0.3
#: ... leans by at most this slope (7 degrees): people hold paper and camera nearly straight ...
LEAN = 0.12
#: ... is this straight, as a share of the picture's side: the side of a round 0 is not ...
STRAIGHT = 0.03
#: ... and runs from end to end except for this share, where it fades or meets another line.
MISSING = 0.15
#: A component with less than this share left without its lines is no digit.
LEFT = 0.25
#: A fragment of a line lies within this share of the picture from its side, and touches the side, or is LONG times as
#: long as thick and, unless other lines were found, runs along MUCH of the side: a 1 stands further inside.
MARGIN, LONG, MUCH = 0.15, 2, 0.4
#: Smaller pictures are not cropped: a frame would leave no room for a digit.
LEAST_FRAMED_SIDE = 48
#: A frame is a border whose grey levels differ by at most this ...
EVEN = 24
#: ... along at least this share of it: corners are round, and the digit may touch.
ALONG = 0.9


def crop_frames(grey: Grey) -> Grey:
    """Crop the frames around a picture: uint8 [H, W] to uint8 [h, w], unchanged if there are none.

    A frame is a ring of one grey level around a ring of another. The ring of a 0 is not taken for one: the corners of
    its box are paper, or nothing is drawn within it.
    """
    inner = grey
    if min(grey.shape) < LEAST_FRAMED_SIDE:
        return grey
    for _ in range(4):  # margin, frame, second margin, second frame
        cut = _within_ring(inner)
        if cut is None:
            break
        inner = cut
    return inner if inner is not grey and int(inner.max()) - int(inner.min()) > EVEN else grey


def _within_ring(grey: Grey) -> Grey | None:
    """Return what the outermost ring of one level surrounds, or None if the border is no such ring."""
    border = border_of(grey)
    level = int(np.sort(border)[border.size // 2])
    if np.count_nonzero(np.abs(border.astype(np.int16) - level) <= EVEN) < ALONG * border.size:
        return None
    other = np.abs(grey.astype(np.int16) - level) > EVEN
    rows, columns = np.flatnonzero(other.any(axis=1)), np.flatnonzero(other.any(axis=0))
    if not rows.size or min(np.ptp(rows), np.ptp(columns)) < 0.5 * min(grey.shape):
        return None
    inset = max(grey.shape) // 100  # skips the soft edge that a camera or a JPEG makes
    top, bottom, left, right = rows[0] + inset, rows[-1] + 1 - inset, columns[0] + inset, columns[-1] + 1 - inset
    ring = border_of(other[top:bottom, left:right])
    return grey[top:bottom, left:right] if np.count_nonzero(ring) >= ALONG * ring.size else None


def is_border_line(part: Mask) -> bool:
    """Tell whether `part`, bool [H, W], holds nothing but straight lines along the sides of the picture.

    Or a corner of such lines, which may fade: the middle and one side are free, unlike in a digit that fills the
    picture.
    """
    rows, columns = (slice(round(BAND * length), round((1 - BAND) * length)) for length in part.shape)
    sides = (
        part[: rows.start, columns],
        part[rows.stop :, columns],
        part[rows, : columns.start],
        part[rows, columns.stop :],
    )
    middle, area = np.count_nonzero(part[rows, columns]), np.count_nonzero(part)
    if middle == 0 and not all(side.any() for side in sides):
        return True
    if middle > 2 * LEFT * area:  # a thick line reaches into the middle, but with less than half of its ink
        return False
    rest = part.copy()
    for turns in range(4):
        _erase_left_line(np.rot90(part, turns), np.rot90(rest, turns))
    return bool(np.count_nonzero(rest) < LEFT * area)


def are_line_fragments(low: Ints, high: Ints, shape: tuple[int, ...], lined: bool) -> Mask:
    """Tell which bounding boxes [2, n] hold only a fragment of a line along a side of a picture of this shape.

    `lined` says whether other lines were found in the picture. Returns bool [n].
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


def _erase_left_line(part: Mask, rest: Mask) -> None:
    """Erase from `rest`, in place, the line that `part` has along its left side; both bool [H, W]."""
    height, width = part.shape
    band = part[:, : max(3, round(BAND * width))]
    rows = np.flatnonzero(band.any(axis=1))
    if len(rows) < (1 - MISSING) * height:
        return
    first = band[rows].argmax(axis=1)
    ends = np.concatenate([~part[rows], np.ones((len(rows), 1), np.bool_)], axis=1)
    lengths = (ends & (np.arange(width + 1) >= first[:, None])).argmax(axis=1) - first
    thin = lengths <= max(2, THICKEST * width)  # where it is not, another line crosses it
    if np.count_nonzero(thin) < (1 - 2 * MISSING) * height:
        return
    along, middle = rows[thin], first[thin] + (lengths[thin] - 1) / 2
    lean, start = np.polyfit(along, middle, 1)
    off = np.abs(middle - start - lean * along)
    if abs(lean) > LEAN or np.quantile(off, 0.9) > STRAIGHT * width + 0.5:
        return
    for row, left, length in zip(along, first[thin], lengths[thin], strict=True):
        rest[row, left : left + length] = False
