"""The ten lines of a sudoku among those that were followed, and crossings out of line."""

from __future__ import annotations

import numpy as np
import pytest

from worker.page.grid.sudoku import evened, ten_lines

View = np.ndarray


def paths(*rows: float) -> tuple[View, View]:
    """Straight paths at these rows, and the shares of them that show."""
    return np.repeat(np.array(rows, np.float32)[:, None], 50, axis=1), np.ones(len(rows), np.float32)


def test_ten_even_lines_are_a_sudokus():
    found = ten_lines(*paths(*range(10, 500, 50)), 480)
    assert found is not None
    np.testing.assert_allclose(found[:, 0], range(10, 500, 50), atol=0.5)


def test_two_of_ten_lines_may_be_lost():
    rows = [row for row in range(10, 500, 50) if row not in (110, 310)]
    found = ten_lines(*paths(*rows), 480)
    assert found is not None
    np.testing.assert_allclose(found[:, 0], range(10, 500, 50), atol=0.5)


@pytest.mark.parametrize(
    ("rows", "height"),
    [
        ([*range(10, 500, 50), 510], 520),
        ([row for row in range(10, 500, 50) if row not in (110, 210, 310)], 480),
        (range(10, 500, 25), 480),
        (range(10, 500, 50), 800),
    ],
    ids=["eleven", "seven", "twice as many", "a part of the view"],
)
def test_others_are_none_of_a_sudokus(rows, height):
    assert ten_lines(*paths(*rows), height) is None


def test_a_crossing_out_of_line_is_put_back():
    even = np.stack(np.meshgrid(50.0 * np.arange(10), 50.0 * np.arange(10)), axis=-1).astype(np.float32)
    wrong = even.copy()
    wrong[4, 5] += 20
    wrong[7, 2] += 10
    found = evened(wrong)
    np.testing.assert_allclose(found[4, 5], even[4, 5], atol=1)
    np.testing.assert_allclose(found[7, 2], even[7, 2] + 10, atol=1)
