"""Marks are cut where digits may touch, and what belongs to one digit is put together."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from tests.drawings import drawn
from worker.page.candidates import SIGN_COST, Candidate, Row, find_candidates, mask_of
from worker.page.lines import Line
from worker.page.marks import find_marks

SIZE = 60


def rings(*places: tuple[float, float], lean: float = 0.0) -> np.ndarray:
    """Rings of SIZE pixels' height at these columns and of these widths, bool [h, w]; the page leans to the right."""
    image = Image.new("L", (320, 100))
    for left, width in places:
        ImageDraw.Draw(image).ellipse((left, 20, left + width, 20 + SIZE), outline=255, width=7)
    leaning = image.transform(image.size, Image.Transform.AFFINE, (1, lean, -50 * lean, 0, 1, 0))
    return np.asarray(leaning) > 127


def candidates(ink: np.ndarray) -> Row:
    marks = find_marks(ink, np.zeros(ink.shape, np.bool_), 6.0)
    return find_candidates(Line(np.argsort(marks.left), float(SIZE)), marks)


def likeness(one: Candidate, row: Row, ink: np.ndarray) -> float:
    """The ink that a candidate and a drawing have in common, as a share of all that either has."""
    own = np.zeros(ink.shape, np.bool_)
    left, top, width, height = one.box
    own[top : top + height, left : left + width] = mask_of(row, one)
    return float((own & ink).sum() / (own | ink).sum())


@pytest.mark.parametrize("lean", [0.0, 0.3])
@pytest.mark.parametrize("second", [78, 84], ids=["a stroke in common", "half of it"])
def test_touching_zeros_are_both_among_the_candidates(lean: float, second: int) -> None:
    places = (40, 45), (second, 45)
    row = candidates(rings(*places, lean=lean))
    for place in places:
        alone = rings(place, lean=lean)
        assert max(likeness(one, row, alone) for one in row.candidates) > 0.8


def test_a_single_digit_of_common_width_is_not_cut_by_a_leaning_line() -> None:
    assert len(candidates(rings((40, 45))).candidates) == 1


def joined(small: tuple[float, float]) -> float:
    """The extra cost of taking a 5 and a small mark as one digit rather than the 5 alone."""
    row = candidates(np.maximum(drawn(5, 200, 200, SIZE, (40, 40)), drawn(1, 200, 200, 22, small, 0.25)) > 0.5)
    costs = {one.stop - one.start: one.cost for one in row.candidates if one.start == 0}
    return costs[2] - costs[1]


def test_a_comma_is_hardly_a_part_of_the_digit_before_it() -> None:
    assert joined((88, 90)) > 2.5 > joined((88, 40))


@pytest.mark.parametrize(("top", "is_sign"), [(48, True), (21, False)], ids=["a dash", "the bar of a 5"])
def test_a_dash_beside_a_digit_is_hardly_a_part_of_it(top: int, is_sign: bool) -> None:
    ink = rings((40, 40))
    ink[top : top + 7, 84:100] = True
    [both] = [one for one in candidates(ink).candidates if one.box[2] > 50]
    assert (both.cost >= SIGN_COST) == is_sign
