"""Takes the digits out of the cells of a straightened table, and tells empty cells."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from shared.numbers import Box
from worker.image.arrays import Floats32, Floats64, Ints, Mask, spans
from worker.image.components import grown
from worker.image.mnist_format import normalise_strokes, place
from worker.page.grid.table import CELL, Table
from worker.page.opencv import opencv

#: Ink is darker than this share of the darkest stroke in its cell, and than LEAST_INK (255ths of the paper's level).
SHARE, LEAST_INK = 0.3, 14
#: Strokes are at least this dark in their middle: pencil is, the grain of newspaper and what shines through are not.
LEAST_STROKE = 26
#: The model's input is full ink from this quantile of the digit's ink on.
FULL = 0.9
#: A digit is at least this high or wide, in cells; less is a dot or dirt.
LEAST_SIZE = 0.25
#: The middle of a digit is at most this far from that of its cell, in cells.
ASIDE = 0.35
#: A piece of ink is of a line if it is so long, in cells, that many times longer than wide, and its middle that near to
#: the edge of the cell. Elsewhere it may be a 1, also one that lies.
LONG, SLIM, EDGE = 0.5, 4, 0.27
#: Other pieces of ink belong to a digit if they are at least this long and at most this far from it, in cells.
PIECE, GAP = 0.12, 0.08


class Digit(NamedTuple):
    """The ink of a digit in a cell."""

    #: float32 [h, w] in [0, 1], and bool [h, w]: the digit alone, and its pixels, in the straightened cell.
    ink: Floats32
    mask: Mask
    #: In pixels of the page.
    box: Box

    def turned(self, quarters: int) -> Floats32:
        """Return the model's input float32 [28, 28] for the digit turned clockwise by that many quarters."""
        ink, mask = np.rot90(self.ink, -quarters), np.rot90(self.mask, -quarters)
        return normalise_strokes(place(np.ascontiguousarray(ink), mask))[0]


class Cell(NamedTuple):
    """A cell of a table."""

    #: In pixels of the page.
    box: Box
    #: The digit in a cell of a sudoku; None if it is empty, and in other tables.
    digit: Digit | None


def digit_of(table: Table, row: int, column: int) -> Digit | None:
    """Return the digit in the cell in that row and column, counted from 0; None if it is empty."""
    top, bottom = table.rows[row : row + 2].tolist()
    left, right = table.columns[column : column + 2].tolist()
    inside = slice(top, bottom), slice(left, right)
    seen = _parts(table.soft[inside])
    if seen is None or float(np.median(table.soft[inside][seen])) < LEAST_STROKE:
        return None
    sharp = table.sharp[inside]
    mask = _parts(sharp)
    mask = seen if mask is None else mask
    used = np.sort(sharp[mask])
    full = used[int(FULL * len(used))]
    ink = np.where(grown(mask), sharp / full, np.float32(0)).clip(0, 1)
    (first, last), (begin, end) = spans(mask)
    return Digit(ink, mask, table.box(top + first, top + last, left + begin, left + end))


def _parts(ink: Floats32) -> Mask | None:
    """Return the pixels of the largest piece of ink in the middle of a cell and of what belongs to it.

    None if all pieces are too small.
    """
    height, width = ink.shape
    mask = (ink > max(SHARE * _darkest(ink), LEAST_INK)).astype(np.uint8)
    count, labels, stats, centres = opencv().connectedComponentsWithStats(mask, connectivity=8)
    edge = np.minimum(centres, (width, height) - centres).min(axis=1)
    inside = (edge > (0.5 - ASIDE) * CELL) & ~_is_line(stats, edge)
    inside[0] = False
    main = int(np.where(inside, stats[:, 4], 0).argmax())
    if main == 0 or max(stats[main, 2], stats[main, 3]) < LEAST_SIZE * CELL:
        return None
    chosen = [part == main or (bool(inside[part]) and _belongs(stats[part], stats[main])) for part in range(count)]
    return np.asarray(np.array(chosen)[labels], np.bool_)


def _is_line(stats: Ints, edge: Floats64) -> Mask:
    """Tell which pieces of ink, with their middles so far from the edge of the cell, are remains of lines."""
    shorter, longer = np.sort(stats[:, 2:4], axis=1).T
    return np.asarray((longer >= LONG * CELL) & (longer > SLIM * shorter) & (edge < EDGE * CELL))


def _darkest(ink: Floats32) -> float:
    """Return the level of the darkest strokes in the middle of a cell."""
    height, width = ink.shape
    middle = ink[height // 6 : -(height // 6), width // 6 : -(width // 6)]
    return float(np.sort(middle, axis=None)[-max(8, min(middle.size, CELL**2 // 2) // 50)])


def _belongs(part: Ints, main: Ints) -> bool:
    """Tell whether a piece of ink belongs to the digit beside it; both by OpenCV's left, top, width, height, area."""
    if max(part[2], part[3]) < PIECE * CELL:
        return False
    gaps = [max(part[axis] - main[axis] - main[axis + 2], main[axis] - part[axis] - part[axis + 2]) for axis in (0, 1)]
    return bool(max(gaps) <= GAP * CELL)
