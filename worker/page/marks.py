"""Finds the marks on a page: connected pieces of ink of a size that a digit may have."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from worker.image.arrays import Floats64, Ints, Mask
from worker.page.opencv import opencv

#: A mark has at least the area of this many squares as wide as a stroke, and is LEAST pixels long.
SPECK, LEAST = 1.5, 4
#: A mark this many times as wide as high is a dash: it may be a piece of a digit, and starts no line of text.
FLAT = 2.2
#: A short line of a form: a mark at most this many times as wide as high, or the reverse, that joins two lines.
TICK = 0.35
#: A frame: a mark of more than FRAME of the page's width and height; or a mark that touches opposite sides.
FRAME = 0.7


class Marks(NamedTuple):
    """n pieces of ink, and their bounding boxes: the first row and column, and one past the last."""

    labels: NDArray[np.int32]  # [H, W], the pieces' numbers in `number`
    number: Ints  # [n]
    left: Ints
    top: Ints
    right: Ints
    bottom: Ints
    area: Ints

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

    @property
    def flat(self) -> Mask:
        """Which are dashes."""
        flat: Mask = self.width >= FLAT * self.height
        return flat

    def chosen(self, which: Mask | Ints) -> Marks:
        """Return some of the marks."""
        return Marks(self.labels, *(values[which] for values in self[1:]))


def find_marks(mask: Mask, rules: Mask, stroke: float) -> Marks:
    """Label the ink, bool [H, W], and return its pieces, without specks, frames and short lines between `rules`."""
    cv = opencv()
    _, labels, stats, _ = cv.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8, ltype=cv.CV_32S)
    stats = stats.astype(np.intp)
    left, top, width, height, area = stats.T
    marks = Marks(labels, np.arange(len(stats)), left, top, left + width, top + height, area)
    rows, columns = mask.shape
    speck = (area < SPECK * stroke**2) | (np.maximum(width, height) < LEAST)
    frame = (width > FRAME * columns) & (height > FRAME * rows) & (area < 0.25 * width * height)
    across = ((width == columns) & (height < rows / 2)) | ((height == rows) & (width > 1.5 * height))
    keep = ~(speck | frame | across)
    keep[0] = False
    narrow = np.flatnonzero(keep & ((width < TICK * height) | (height < TICK * width)))
    if narrow.size and rules.any():
        near = cv.dilate(rules.view(np.uint8), np.ones((5, 5), np.uint8)) > 0
        keep[[at for at in narrow.tolist() if _joins_rules(marks, at, near)]] = False
    return marks.chosen(keep)


def _joins_rules(marks: Marks, at: int, near: Mask) -> bool:
    """Tell whether both ends of a narrow mark touch ruling."""
    box = slice(marks.top[at], marks.bottom[at]), slice(marks.left[at], marks.right[at])
    own, touching = marks.labels[box] == marks.number[at], near[box]
    if marks.width[at] > marks.height[at]:
        own, touching = own.T, touching.T
    return bool((own & touching)[:2].any() and (own & touching)[-2:].any())
