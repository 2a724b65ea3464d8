"""Assigns the numbers of a page to the cells of its table."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby

import numpy as np

from shared.numbers import FoundDigit, FoundGrid, FoundNumber, PageReading
from worker.page.grid.find import Grid

#: Row and column; None outside the table.
Place = tuple[int, int] | None


def in_cells(reading: PageReading, grid: Grid) -> PageReading:
    """Return the reading with its table. A number ends where a cell ends; a cell with several has them all.

    If no cell has text, the reading is returned unchanged: the table may be the panes of a window.
    """
    numbers: list[FoundNumber] = []
    texts: dict[Place, list[str]] = {}
    for number in reading.numbers:
        for place, digits in groupby(number.digits, lambda digit: _place(digit, grid)):
            part = FoundNumber(tuple(digits), number.signs)
            numbers.append(part)
            if place and part.text:
                texts.setdefault(place, []).append(part.text)
    if not texts:
        return reading
    rows, columns = len(grid.cells), len(grid.cells[0])
    turned = np.rot90(np.arange(rows * columns).reshape(rows, columns), -reading.rotated // 90).tolist()
    places = [[divmod(at, columns) for at in row] for row in turned]
    cells = tuple(tuple(" ".join(texts.get(place, [])) for place in row) for row in places)
    boxes = tuple(tuple(grid.cells[row][column].box for row, column in line) for line in places)
    return replace(reading, numbers=tuple(numbers), grid=FoundGrid(cells, boxes))


def _place(digit: FoundDigit, grid: Grid) -> Place:
    """Return the cell that the middle of the digit is in; where boxes of slanted cells overlap, the nearest."""
    left, top, width, height = digit.box
    x, y = left + width / 2, top + height / 2
    found: Place = None
    nearest = float("inf")
    for row, cells in enumerate(grid.cells):
        for column, cell in enumerate(cells):
            left, top, width, height = cell.box
            if left <= x < left + width and top <= y < top + height:
                away = (x - left - width / 2) ** 2 + (y - top - height / 2) ** 2
                if away < nearest:
                    found, nearest = (row, column), away
    return found
