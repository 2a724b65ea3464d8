"""Finds the marks on a page: connected pieces of ink of a size that a digit may have."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from worker.image.arrays import Floats64, Ints, Mask
from worker.page.ink import stroke_width
from worker.page.opencv import opencv

#: A mark has at least the area of this many squares as wide as a stroke, and is LEAST pixels long.
SPECK, LEAST = 1.5, 4
#: A mark of less than SMALL strokes that fills this share of a square of its size is a dot, as where squares cross.
SMALL, DOT = 3.0, 0.55
#: A mark this many times as wide as high, and less than THICK strokes high, is a dash: it may be a piece of a digit,
#: and starts no line of text. Higher ones may be touching digits.
FLAT, THICK = 2.2, 4.0
#: A short line of a form: a mark at most this many times as wide as high, or the reverse, that joins two lines and is
#: at most AS_THICK times as thick.
TICK, AS_THICK = 0.35, 1.4
#: An empty box to tick or fill: its four sides are inked along this share of its length, within EDGE of its size.
BOXED, EDGE = 0.9, 0.12
#: A frame: a mark of more than FRAME of the page's width and height with less than INNER of its ink in the inner half
#: of its box; or a mark that touches opposite sides.
FRAME, INNER = 0.7, 0.1


class Marks(NamedTuple):
    """n pieces of ink, and their bounding boxes: the first row and column, and one past the last."""

    labels: NDArray[np.int32]  # [H, W], the pieces' numbers in `number`
    number: Ints  # [n]
    left: Ints
    top: Ints
    right: Ints
    bottom: Ints
    area: Ints
    flat: Mask  # which are dashes

    @property
    def height(self) -> Ints:
        """The heights [n] in pixels."""
        return self.bottom - self.top

    @property
    def width(self) -> Ints:
        """The widths [n] in pixels."""
        return self.right - self.left

    @property
    def middle(self) -> tuple[Floats64, Floats64]:
        """The columns and the rows of the middles of the boxes."""
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2

    def view(self, mark: int) -> tuple[slice, slice]:
        """Return the rows and columns of a mark's box."""
        return slice(self.top[mark], self.bottom[mark]), slice(self.left[mark], self.right[mark])

    def mask(self, mark: int) -> Mask:
        """Return the ink of a mark within its box."""
        found: Mask = self.labels[self.view(mark)] == self.number[mark]
        return found

    def chosen(self, which: Mask | Ints) -> Marks:
        """Return some of the marks."""
        number, left, top, right, bottom, area = (values[which] for values in self[1:7])
        return Marks(self.labels, number, left, top, right, bottom, area, self.flat[which])


def find_marks(mask: Mask, rules: Mask, stroke: float) -> Marks:
    """Label the ink, bool [H, W], and return its pieces, without specks, frames and short lines between `rules`."""
    cv = opencv()
    _, labels, stats, _ = cv.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8, ltype=cv.CV_32S)
    stats = stats.astype(np.intp)
    left, top, width, height, area = stats.T
    flat = (width >= FLAT * height) & (height < THICK * stroke)
    marks = Marks(labels, np.arange(len(stats)), left, top, left + width, top + height, area, flat)
    rows, columns = mask.shape
    size = np.maximum(width, height)
    speck = (area < SPECK * stroke**2) | (size < LEAST) | ((size < SMALL * stroke) & (area > DOT * size**2))
    frame = (width > FRAME * columns) & (height > FRAME * rows) & (area < 0.25 * width * height)
    for at in (np.flatnonzero(frame[1:]) + 1).tolist():
        own = marks.mask(at)
        down, right = own.shape[0] // 4, own.shape[1] // 4
        frame[at] = own[down:-down, right:-right].sum() < INNER * area[at]
    across = ((width == columns) & (height < rows / 2)) | ((height == rows) & (width > 1.5 * height))
    keep = ~(speck | frame | across)
    keep[0] = False
    hollow = np.flatnonzero(keep & (np.minimum(width, height) > 2 * LEAST) & (area < 0.6 * width * height))
    keep[[at for at in hollow.tolist() if _is_box(marks.mask(at))]] = False
    narrow = np.flatnonzero(keep & ((width < TICK * height) | (height < TICK * width)))
    if narrow.size and rules.any():
        thickest = AS_THICK * stroke_width(rules)
        narrow = narrow[area[narrow] <= thickest * np.maximum(width, height)[narrow]]
        near = cv.dilate(rules.view(np.uint8), np.ones((5, 5), np.uint8)) > 0
        near[[0, -1]] = near[:, [0, -1]] = True  # the line may go on beside the picture
        keep[[at for at in narrow.tolist() if _joins_rules(marks, at, near)]] = False
    return marks.chosen(keep)


def _is_box(own: Mask) -> bool:
    """Tell whether all four sides of the bounding box are inked, as in a rectangle and not in a round 0."""
    edge = max(2, round(EDGE * min(own.shape)))
    sides = own[:edge].any(axis=0), own[-edge:].any(axis=0), own[:, :edge].any(axis=1), own[:, -edge:].any(axis=1)
    return all(side.mean() >= BOXED for side in sides)


def _joins_rules(marks: Marks, at: int, near: Mask) -> bool:
    """Tell whether both ends of a narrow mark touch ruling."""
    own, touching = marks.mask(at), near[marks.view(at)]
    if marks.width[at] > marks.height[at]:
        own, touching = own.T, touching.T
    return bool((own & touching)[:2].any() and (own & touching)[-2:].any())
