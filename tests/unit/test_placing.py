"""Tests of how a candidate for a digit is brought to the input of the model: whole, centred and as bright."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from worker.image.mnist_format import BOX, CENTRE
from worker.page.candidates import whole_marks
from worker.page.marks import find_marks
from worker.page.placing import model_inputs


def placed(level: Any) -> Any:
    """The inputs of all marks of a page with this ink."""
    marks = find_marks(level > 0, np.zeros(level.shape, np.bool_), 4.0)
    return model_inputs(level, [whole_marks(marks)])


def ink(*boxes: tuple[int, int, int, int], size: tuple[int, int] = (200, 200), level: int = 200) -> Any:
    """Ink in these boxes: left, top, width, height."""
    page = np.zeros(size, np.uint8)
    for left, top, width, height in boxes:
        page[top : top + height, left : left + width] = level
    return page


def extent(pixels: Any) -> tuple[float, float]:
    """The height and the width of the ink, with parts of pixels."""
    return float(pixels.max(axis=1).sum()), float(pixels.max(axis=0).sum())


def middle(pixels: Any) -> list[float]:
    return [float(pixels.sum(axis=axis) @ np.arange(0.5, 28) / pixels.sum()) for axis in (1, 0)]


@pytest.mark.parametrize("scale", [1, 2, 5])
def test_a_digit_of_any_size_fits_the_box_and_has_its_mass_in_the_middle(scale: int) -> None:
    [pixels] = placed(ink((20, 20, 5 * scale, 20 * scale)))
    assert extent(pixels) == pytest.approx((BOX, BOX / 4), abs=1.0)
    assert middle(pixels) == pytest.approx([CENTRE, CENTRE], abs=0.2)


def test_ink_of_any_level_is_as_bright_as_mnists() -> None:
    slanted = [(20 + row // 3, 20 + row, 12, 1) for row in range(67)]
    [dark] = placed(ink(*slanted, level=255))
    for level in (1, 2, 30):
        [faint] = placed(ink(*slanted, level=level))
        assert np.abs(faint - dark).max() < 0.02 and faint.max() == pytest.approx(1, abs=0.01)


def test_a_digit_at_the_border_is_whole() -> None:
    inside, corner = placed(ink((50, 50, 12, 40), (188, 160, 12, 40)))
    assert np.abs(inside - corner).max() < 0.05
    [first] = placed(ink((0, 0, 12, 40)))
    assert np.abs(inside - first).max() < 0.05


def test_a_digit_whose_mass_is_at_one_end_stays_inside() -> None:
    # As a 7 with a heavy bar: with its mass in the middle its foot would be outside.
    for boxes in ([(20, 20, 90, 44), (60, 64, 12, 56)], [(60, 20, 12, 56), (20, 76, 90, 44)]):
        [pixels] = placed(ink(*boxes))
        assert extent(pixels)[0] == pytest.approx(BOX, abs=0.6)


def test_other_ink_is_no_part_of_a_digit() -> None:
    corner = (20, 20, 12, 60), (20, 80, 50, 12)
    [alone] = placed(ink(*corner))
    together = placed(ink(*corner, (45, 30, 12, 30)))
    assert len(together) == 2 and np.abs(together[0] - alone).max() < 0.02


def test_a_page_without_candidates_has_no_inputs() -> None:
    assert placed(ink()).shape == (0, 28, 28)
