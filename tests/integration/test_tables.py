"""Ruled tables read by the model in service."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shared.settings import SHIPPED_MODEL
from tests.drawings import drawn
from tests.unit.test_grids import PUZZLE, as_it_is, curved, paper, shaded, table, tilted
from worker.inference.mlp import Mlp
from worker.inference.read_pages import read_pages


@pytest.fixture(scope="module")
def model() -> Mlp:
    return Mlp.load(Path(SHIPPED_MODEL))


def read_one(page, read, thresholds):
    [found] = read_pages([page], read, thresholds)
    return found


@pytest.mark.parametrize(("seen", "quarters"), [(as_it_is, 0), (tilted, 1), (curved, 2), (shaded, 3)])
def test_a_sudoku_is_read_however_it_is_turned(model, seen, quarters):
    page, _ = seen(*table(PUZZLE))
    reading = read_one(np.ascontiguousarray(np.rot90(page, quarters)), model.read, {})
    assert reading.grid is not None
    assert reading.grid.to_json()["cells"] == PUZZLE
    assert reading.rotated == 90 * quarters  # clockwise, back to upright
    assert len(reading.digits) == sum(cell != "." for row in PUZZLE for cell in row)


def test_a_cell_of_a_table_may_hold_a_number(model):
    page, places = table(["..", ".."], wide=120)
    x, y = places[1, 0].astype(int)
    for at, number in enumerate((7, 5)):
        part = page[y + 5 : y + 55, x + 20 + 40 * at : x + 60 + 40 * at]
        np.minimum(part, paper(drawn(number, 40, 50, size=34, at=(4, 8))), out=part)
    reading = read_one(page, model.read, {})
    assert reading.grid is not None
    assert reading.grid.to_json()["cells"] == [["", ""], ["75", ""]]
    assert [number.text for number in reading.numbers] == ["75"]


def test_boxes_are_those_of_the_page(model):
    page, places = table(["5.", ".8"])
    reading = read_one(page, model.read, {})
    assert reading.grid is not None
    left, top, width, height = reading.grid.boxes[1][1]
    assert np.abs(np.array([left, top, left + width, top + height]) - [*places[1, 1], *places[2, 2]]).max() <= 4
    x, y, wide, high = reading.digits[1].box
    assert left < x < x + wide < left + width
    assert top < y < y + high < top + height


def test_what_is_no_digit_in_a_sudoku_is_to_be_reviewed(model):
    reading = read_one(table(PUZZLE)[0], model.read, {"digit": 1.1})
    assert {one.decision for one in reading.digits} == {"review"}
