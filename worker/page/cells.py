"""Takes the digits out of the cells of a straightened table, and tells empty cells."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from shared.numbers import Box
from worker.image.arrays import Floats32, Floats64, Grey, Ints, Mask, spans
from worker.image.components import grown
from worker.image.mnist_format import normalise_strokes, place
from worker.page.opencv import opencv
from worker.page.table import CELL, Table

#: Ink is darker than this share of the darkest stroke in its cell, and than LEAST_INK (255ths of the paper's level).
SHARE, LEAST_INK = 0.3, 14
#: Strokes are at least this dark in their middle: pencil is, the grain of newspaper and what shines through are not.
LEAST_STROKE = 26
#: The model's input is full ink from this quantile of the digit's ink on.
FULL = 0.9
#: A digit is at least this high or wide, in cells; less is a dot or dirt.
LEAST_SIZE = 0.25
#: In a cell as wide as high, the middle of a digit is at most this far from that of the cell, in cells.
ASIDE = 0.35
#: A piece of ink is of a line if it is so long, in cells, so many times longer than wide, and its middle that near to
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
    #: The digits in it, from left to right; none if it is empty.
    digits: tuple[Digit, ...]
    #: uint8 [h, w]: the cell seen from straight above, without the table's lines; dark ink on white paper.
    crop: Grey


def cell_of(table: Table, row: int, column: int, several: bool) -> Cell:
    """Return the cell in that row and column, counted from 0; unless `several` it holds one digit at most."""
    top, bottom = table.rows[row : row + 2].tolist()
    left, right = table.columns[column : column + 2].tolist()
    inside = slice(top, bottom), slice(left, right)
    box, crop = table.box(top, bottom, left, right), np.rint(255 - table.ink[inside]).astype(np.uint8)
    soft, sharp = table.soft[inside], table.sharp[inside]
    seen = [mask for mask in _digits(soft, several) if _is_ink(soft, mask)]
    if not seen:
        return Cell(box, (), crop)
    sharper = [mask for mask in _digits(sharp, several) if _is_ink(soft, mask)]
    found = []
    for mask in sharper or seen:
        (first, last), (begin, end) = spans(mask)
        place = table.box(top + first, top + last, left + begin, left + end)
        found.append(Digit(_levels(sharp, mask), mask, place))
    return Cell(box, tuple(found), crop)


def _is_ink(soft: Floats32, mask: Mask) -> bool:
    return float(np.median(soft[mask])) >= LEAST_STROKE


def _levels(sharp: Floats32, mask: Mask) -> Floats32:
    """Return the ink of a digit in [0, 1], float32 [h, w], with the soft edge around its pixels."""
    used = np.sort(sharp[mask])
    return np.where(grown(mask), sharp / used[int(FULL * len(used))], np.float32(0)).clip(0, 1)


def _digits(ink: Floats32, several: bool) -> list[Mask]:
    """Return the pixels of each digit in a cell, from left to right, or of its largest piece of ink alone."""
    height, width = ink.shape
    mask = (ink > max(SHARE * _darkest(ink), LEAST_INK)).astype(np.uint8)
    count, labels, stats, centres = opencv().connectedComponentsWithStats(mask, connectivity=8)
    edge = np.minimum(centres, (width, height) - centres).min(axis=1)
    inside = (edge > (0.5 - ASIDE) * CELL) & ~_is_line(stats, edge)
    inside[0] = False
    large = [at for at in np.flatnonzero(inside).tolist() if max(stats[at, 2:4]) >= LEAST_SIZE * CELL]
    if not several:
        large = sorted(large, key=lambda at: -stats[at, 4])[:1]
    groups: list[list[int]] = []
    for at in sorted(large, key=lambda at: stats[at, 0]):
        if groups and _overlap(stats[groups[-1][0]], stats[at]):
            groups[-1].append(at)
        else:
            groups.append([at])
    others = [at for at in np.flatnonzero(inside).tolist() if at not in large]
    for group in groups:
        group += [at for at in others if _belongs(stats[at], stats[group[0]])]
    return [np.isin(np.arange(count), group)[labels] for group in groups]


def _is_line(stats: Ints, edge: Floats64) -> Mask:
    """Tell which pieces of ink, with their middles so far from the edge of the cell, are remains of lines."""
    shorter, longer = np.sort(stats[:, 2:4], axis=1).T
    return np.asarray((longer >= LONG * CELL) & (longer > SLIM * shorter) & (edge < EDGE * CELL))


def _overlap(one: Ints, other: Ints) -> bool:
    """Tell whether two pieces of ink are above one another along more than half of the narrower one."""
    common = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    return bool(common > min(one[2], other[2]) / 2)


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
