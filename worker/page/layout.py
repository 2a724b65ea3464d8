"""Lays out a page: from grey levels to the candidates for digits, line by line, and back to places on the page."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from shared.numbers import Box
from worker.image.arrays import Floats32, Floats64, Grey, Mask
from worker.page.candidates import Row, find_candidates, whole_marks
from worker.page.ink import find_ink
from worker.page.lines import find_lines
from worker.page.marks import Marks, find_marks
from worker.page.opencv import opencv
from worker.page.placing import model_inputs
from worker.page.skew import lean
from worker.page.unruled import unruled

#: Pages that lean by more degrees are turned; others are read as they are.
STRAIGHT = 7.0
#: Pages of this shorter side or less are enlarged: strokes of one or two pixels make no clear marks.
SMALL, ENLARGED = 120, 3
#: More marks than this are a texture, or far too many digits: some of them are enough to tell.
MOST_MARKS = 3000
#: A page with more candidates than this, several times those of 1,000 digits, is writing or a texture: nothing is cut.
MOST_CANDIDATES = 5000


@dataclass(slots=True)
class Layout:
    """The candidates for digits on a page."""

    #: uint8 [H, W]: the share of the light that the ink takes; and the pieces of ink.
    level: Grey
    marks: Marks
    rows: list[Row]
    #: float32 [n, 28, 28]: the model's input for each candidate, row by row.
    pixels: Floats32
    #: Affine map [2, 3] from the places here to the page as it was given: (x, y, 1) in pixels.
    back: Floats64
    #: Quarter turns clockwise by which the page was turned.
    quarters: int = 0
    #: Whether there were more marks than MOST_MARKS; some were then left out.
    crowded: bool = False

    def sample(self, most: int) -> Floats32:
        """Return the inputs of at most so many marks of common size, whatever line they are on: float32 [n, 28, 28]."""
        size = np.maximum(self.marks.height, self.marks.width)
        common = float(np.median(size)) if size.size else 0.0
        alike = np.flatnonzero((size > common / 2) & (size < 2 * common))
        some = self.marks.chosen(alike[:: max(1, -(-len(alike) // most))])
        return model_inputs(self.level, [whole_marks(some)])

    def on_page(self, box: Box, shape: tuple[int, ...]) -> Box:
        """Return the box in pixels of the page of this shape, as it was given."""
        left, top, width, height = box
        corners = np.array(
            [[left, top, 1], [left + width, top, 1], [left, top + height, 1], [left + width, top + height, 1]]
        )
        places = corners @ self.back.T
        low = np.floor(places.min(axis=0) + 1e-6).clip(0, [shape[1] - 1, shape[0] - 1])
        high = np.ceil(places.max(axis=0) - 1e-6).clip(low + 1, [shape[1], shape[0]])
        return int(low[0]), int(low[1]), int(high[0] - low[0]), int(high[1] - low[1])


def lay_out(page: Grey, quarters: int = 0) -> Layout:
    """Find the candidates on a page, uint8 [H, W], after so many quarter turns clockwise."""
    grey = np.ascontiguousarray(np.rot90(page, -quarters))
    back = _quarter_back(page.shape, quarters)
    if min(grey.shape) <= SMALL:
        cv = opencv()
        grey = cv.resize(grey, None, fx=ENLARGED, fy=ENLARGED, interpolation=cv.INTER_CUBIC)
        back = back @ _square(np.diag([1 / ENLARGED, 1 / ENLARGED, 1])[:2])
    level, marks, crowded = _marks(grey)
    degrees = lean(marks)
    if abs(degrees) > STRAIGHT:
        grey, paper, again = _turned(grey, degrees)
        back = back @ _square(again)
        level, marks, crowded = _marks(grey, paper)
        degrees = 0.0
    rows = _rows(marks, degrees)
    return Layout(level, marks, rows, model_inputs(level, rows), back, quarters, crowded)


def _rows(marks: Marks, degrees: float) -> list[Row]:
    """Return the lines of text with their candidates; of a page with too many, only marks as they are."""
    lines = find_lines(marks, degrees)
    rows, count = [], 0
    for line in lines:
        rows.append(find_candidates(line, marks))
        count += len(rows[-1].candidates)
        if count > MOST_CANDIDATES:
            return [whole_marks(marks.chosen(line.marks), line.height) for line in lines]
    return rows


def _marks(grey: Grey, paper: Mask | None = None) -> tuple[Grey, Marks, bool]:
    """Return the levels of the ink, the marks on the page, and whether there are too many; none beside `paper`."""
    ink = find_ink(grey)
    mask, rules = unruled(ink)
    marks = find_marks(mask if paper is None else mask & paper, rules, ink.stroke)
    count = len(marks.number)
    if count <= MOST_MARKS:
        return ink.level, marks, False
    return ink.level, marks.chosen(np.arange(count)[:MOST_MARKS]), True


def _turned(grey: Grey, degrees: float) -> tuple[Grey, Mask, Floats64]:
    """Turn the page anticlockwise by so many degrees on a larger canvas; also return where it lies, and the map back.

    Beside the page its border is continued: black there would be an edge.
    """
    cv = opencv()
    height, width = grey.shape
    angle = math.radians(degrees)
    wide = math.ceil(abs(width * math.cos(angle)) + abs(height * math.sin(angle)))
    high = math.ceil(abs(height * math.cos(angle)) + abs(width * math.sin(angle)))
    there: Floats64 = cv.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    there[:, 2] += (wide - width) / 2, (high - height) / 2
    turned = cv.warpAffine(grey, there, (wide, high), flags=cv.INTER_LINEAR, borderMode=cv.BORDER_REPLICATE)
    paper = cv.warpAffine(np.ones_like(grey), there, (wide, high), flags=cv.INTER_NEAREST) > 0
    return turned, paper, np.asarray(cv.invertAffineTransform(there), np.float64)


def _quarter_back(shape: tuple[int, ...], quarters: int) -> Floats64:
    """Return the map from a page turned clockwise by quarters back to the page of this shape."""
    height, width = shape
    maps = {
        0: [[1, 0, 0], [0, 1, 0]],
        1: [[0, 1, 0], [-1, 0, height]],
        2: [[-1, 0, width], [0, -1, height]],
        3: [[0, -1, width], [1, 0, 0]],
    }
    return np.array(maps[quarters % 4], np.float64)


def _square(affine: Floats64) -> Floats64:
    """Return the affine map [2, 3] as [3, 3]."""
    return np.vstack([affine, [0.0, 0.0, 1.0]])
