"""Reads the digits in the cells of a sudoku."""

from __future__ import annotations

from collections.abc import Generator, Mapping

import numpy as np

from shared.numbers import FoundDigit, FoundGrid, FoundNumber, PageReading
from worker.image.arrays import Floats32
from worker.inference.decision import decide
from worker.inference.mlp import SIDE, Reading
from worker.page.grid.cells import Digit
from worker.page.grid.find import Grid

#: The mean confidence, times digitness, of a table's digits below which it is tried turned by quarters.
POOR = 0.9


def read_sudoku(grid: Grid, limits: Mapping[str, float]) -> Generator[Floats32, Reading, PageReading]:
    """Read the digits in the cells; it yields the model's inputs and is sent their reading.

    If they read poorly, they are tried in the three other turns.
    """
    quarters, readings = 0, [(yield inputs(grid, 0))]
    if _quality(readings[0]) < POOR:
        turned = np.stack([inputs(grid, turn) for turn in (1, 2, 3)])
        count = turned.shape[1]
        rest = yield turned.reshape(-1, SIDE, SIDE)
        parts = [slice(turn * count, (turn + 1) * count) for turn in range(3)]
        readings += [Reading(rest.probabilities[part], rest.digitness[part]) for part in parts]
        quarters = int(np.argmax([_quality(one) for one in readings]))
    return _reading(grid, readings[quarters], quarters, limits)


def inputs(grid: Grid, quarters: int) -> Floats32:
    """Return the model's inputs float32 [n, 28, 28] for the digits of the grid, turned clockwise by quarters."""
    digits = [cell.digit.turned(quarters)[None] for row in grid.cells for cell in row if cell.digit]
    return np.concatenate([np.empty((0, SIDE, SIDE), np.float32), *digits])


def _quality(reading: Reading) -> float:
    """Return the mean confidence, times digitness, of digits; 1 without any."""
    sure = reading.probabilities.max(axis=1) * reading.digitness
    return float(sure.mean()) if sure.size else 1.0


def _reading(grid: Grid, reading: Reading, quarters: int, limits: Mapping[str, float]) -> PageReading:
    """Return what the grid says, by the reading of its `inputs` turned clockwise by quarters.

    Rows and columns are those of the turned page, boxes those of the page as given.
    """
    cells = [cell for row in grid.cells for cell in row]
    rows = zip(reading.probabilities, reading.digitness.tolist(), strict=True)
    digits = [_digit(cell.digit, *next(rows), limits) if cell.digit else None for cell in cells]
    turned = np.rot90(np.arange(len(cells)).reshape(len(grid.cells), -1), -quarters).tolist()
    texts = tuple(tuple(_text(digits[at]) for at in row) for row in turned)
    boxes = tuple(tuple(cells[at].box for at in row) for row in turned)
    numbers = tuple(FoundNumber((digit,)) for row in turned for at in row if (digit := digits[at]))
    return PageReading(numbers, FoundGrid(texts, boxes), 90 * quarters)


def _digit(digit: Digit, probabilities: Floats32, digitness: float, limits: Mapping[str, float]) -> FoundDigit:
    """Return the digit that the model read in a cell: nothing else stands there, so low digitness is to be reviewed."""
    number = int(probabilities.argmax())
    confidence = float(probabilities[number])
    decision, reason = decide(confidence, digitness, (), limits)
    return FoundDigit(number, confidence, "review" if reason == "not_a_digit" else decision, digit.box)


def _text(digit: FoundDigit | None) -> str:
    return str(digit.digit) if digit and digit.decision != "reject" else ""
