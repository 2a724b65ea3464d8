"""Finds a ruled table in a picture and takes its cells apart."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from shared.numbers import Box
from worker.image.arrays import Floats32, Grey
from worker.page.grid.cells import Cell, digit_of
from worker.page.grid.frames import SEARCHED, darkness, outlines, straightened
from worker.page.grid.lattice import lattice_of
from worker.page.grid.sudoku import LINES, evened
from worker.page.grid.table import straighten
from worker.page.ink import ink_is_dark
from worker.page.opencv import opencv

#: An outline is corrected if a corner is further than this from the table's, as a share of its longer side.
ASTRAY = 0.04


class Grid(NamedTuple):
    """A ruled table on a page."""

    #: float32 [rows + 1, columns + 1, 2]: where its lines cross, x before y, in pixels of the page.
    crossings: Floats32
    #: Row by row.
    cells: list[list[Cell]]

    @property
    def is_sudoku(self) -> bool:
        """True for a table of nine rows and nine columns, whose cells hold one digit at most."""
        return self.crossings.shape[:2] == (LINES, LINES)


def find_grid(grey: Grey) -> Grid | None:
    """Return the ruled table with its cells in a page uint8 [H, W]; None if there is none.

    Lines are darker than the paper, or brighter where the ink is, too.

    The digits are taken out of the cells of a sudoku only: others may be of any size and hold any number of digits.
    """
    if not ink_is_dark(grey):
        grey = 255 - grey
    crossings = find_crossings(grey)
    if crossings is None:
        return None
    rows, columns = range(len(crossings) - 1), range(crossings.shape[1] - 1)
    table = straighten(grey, crossings) if crossings.shape[:2] == (LINES, LINES) else None
    return Grid(
        crossings,
        [
            [
                Cell(
                    _box(crossings[row : row + 2, column : column + 2]), digit_of(table, row, column) if table else None
                )
                for column in columns
            ]
            for row in rows
        ],
    )


def find_crossings(grey: Grey) -> Floats32 | None:
    """Return where the lines of a ruled table cross, float32 [rows + 1, columns + 1, 2], x before y, in pixels.

    The table has at least two rows and two columns; a sudoku may lack some of its lines. None if there is no table.
    """
    cv = opencv()
    scale = max(1.0, max(grey.shape) / SEARCHED)
    size = round(grey.shape[1] / scale), round(grey.shape[0] / scale)
    dark = darkness(cv.resize(grey, size, interpolation=cv.INTER_AREA) if scale > 1 else grey)
    found = _crossings(dark)
    return None if found is None else np.asarray(found * scale, np.float32)


def _crossings(dark: Grey) -> Floats32 | None:
    """Return the crossings of the first table that fills its outline, or else of any: looked at again by its corners.

    An outline may be that of the paper, or be drawn out by something that touches the table.
    """
    other = None
    for corners in outlines(dark):
        found = _within(dark, corners)
        if found is None:
            continue
        if found.shape[:2] == (LINES, LINES):
            found = evened(found)
        if np.abs(_outer(found) - corners).max() <= ASTRAY * float(np.ptp(_outer(found), axis=0).max()):
            return found
        if other is None:
            again = _within(dark, _outer(found))
            other = found if again is None or again.shape != found.shape else again
    return other


def _within(dark: Grey, corners: Floats32) -> Floats32 | None:
    flat, margin, back = straightened(dark, corners)
    found = lattice_of(flat, margin)
    return None if found is None else np.asarray(opencv().perspectiveTransform(found, back), np.float32)


def _outer(crossings: Floats32) -> Floats32:
    """Return the corners of a table [4, 2], clockwise from the upper left one."""
    return crossings[[0, 0, -1, -1], [0, -1, -1, 0]]


def _box(corners: Floats32) -> Box:
    """Return the box in pixels of the page around a cell, by its corners [2, 2, 2]."""
    (left, top), (right, bottom) = np.floor(corners.min(axis=(0, 1))).clip(0), np.ceil(corners.max(axis=(0, 1)))
    return int(left), int(top), int(right - left), int(bottom - top)
