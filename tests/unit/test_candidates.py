"""The candidates for one digit on a line: how wide, high and far apart its parts may be, and what it costs."""

from __future__ import annotations

from math import log

import numpy as np
import pytest

from tests.marked import Box, marks_of
from worker.page.candidates import (
    CUT_COST,
    GAP_COST,
    HEIGHT_SPREAD,
    SHARED_COST,
    SIGN_COST,
    Row,
    find_candidates,
    mask_of,
    whole_marks,
)
from worker.page.lines import Line

#: The height of a digit on the line.
HEIGHT = 60
DIGIT = (0, 0, 30, 60)


def row(*boxes: Box) -> Row:
    marks = marks_of(boxes)
    return find_candidates(Line(np.argsort(marks.left), float(HEIGHT)), marks)


def boxes(*marks: Box) -> list[Box]:
    return [one.box for one in row(*marks).candidates]


def cost(*marks: Box) -> float:
    """Return the cost of all as one digit, beside its height."""
    [one] = [one for one in row(*marks).candidates if one.stop - one.start == len(marks)]
    return one.cost - (log(one.box[3] / HEIGHT) / HEIGHT_SPREAD) ** 2 / 2


def are_one(*marks: Box) -> bool:
    return any(one.stop - one.start == len(marks) for one in row(*marks).candidates)


@pytest.mark.parametrize(("high", "may"), [(14, False), (15, True), (114, True), (115, False)])
def test_a_digit_is_neither_low_nor_high(high: int, may: bool) -> None:
    assert boxes((0, 0, 9, high)) == [(0, 0, 9, high)] * may


@pytest.mark.parametrize(("wide", "may"), [(27, True), (28, False)])
def test_a_digit_is_not_much_wider_than_high(wide: int, may: bool) -> None:
    assert boxes((0, 0, wide, 15)) == [(0, 0, wide, 15)] * may


@pytest.mark.parametrize(("left", "may"), [(42, True), (43, False)])
def test_parts_of_a_digit_are_near(left: int, may: bool) -> None:
    assert are_one(DIGIT, (left, 0, 10, 30)) == may


@pytest.mark.parametrize(("wide", "may"), [(39, True), (40, False)])
def test_a_digit_of_several_parts_is_not_wide(wide: int, may: bool) -> None:
    assert are_one((0, 0, 36, 60), (42, 0, wide, 35)) == may


@pytest.mark.parametrize(
    ("left", "high", "may"), [(36, 36, True), (37, 36, False), (37, 35, True)], ids=["near", "apart", "low"]
)
def test_two_high_marks_beside_each_other_are_two(left: int, high: int, may: bool) -> None:
    assert are_one((0, 0, 30, 36), (left, 0, 10, high)) == may


def test_a_digit_has_at_most_five_parts() -> None:
    found = row(*((8 * at, 0, 4, 30) for at in range(7))).candidates
    assert max(one.stop - one.start for one in found) == 5


def test_a_gap_costs_by_its_width() -> None:
    near, far = cost(DIGIT, (33, 0, 10, 30)), cost(DIGIT, (42, 0, 10, 30))
    assert (near, far) == (pytest.approx(GAP_COST * 3 / 60), pytest.approx(GAP_COST * 12 / 60))
    assert cost(DIGIT, (20, 0, 10, 30)) == 0  # they overlap


def test_another_height_costs_half_of_its_squared_logarithm() -> None:
    [one] = row((0, 0, 30, 90)).candidates
    assert one.cost == pytest.approx((log(1.5) / 0.4) ** 2 / 2)


@pytest.mark.parametrize(
    ("mark", "sign"),
    [
        ((33, 44, 8, 20), True), ((33, 8, 8, 20), False),  # a comma ends below the digit
        ((33, 9, 8, 20), True),  # a dot or dash is not at its top
        ((33, 12, 8, 21), True), ((33, 12, 8, 22), False),  # and is low
        ((20, 41, 8, 22), False), ((20, 42, 8, 22), True),  # a higher comma
        ((29, 12, 8, 20), False), ((30, 12, 8, 20), True),  # beside it
        ((33, 30, 8, 35), False), ((33, 31, 8, 35), True), ((33, 31, 8, 36), False),  # no comma is whole
    ],
)  # fmt: skip
def test_a_comma_or_a_dash_is_hardly_a_part_of_a_digit(mark: Box, sign: bool) -> None:
    gap = max(0, mark[0] - 30)
    assert cost(DIGIT, mark) == pytest.approx(GAP_COST * gap / 60 + SIGN_COST * sign)


#: Five bars of a comb, joined by a thin line.
COMB = np.zeros((60, 76), np.bool_)
COMB[29:32] = True
for bar in range(0, 76, 18):
    COMB[:, bar : bar + 4] = True


def comb() -> Row:
    marks = marks_of([(0, 0, 76, 60)])
    marks.labels[:] = COMB
    return find_candidates(Line(np.array([0]), float(HEIGHT)), marks)


def test_a_mark_may_be_one_digit_however_many_cuts_it_has() -> None:
    found = comb()
    assert len(found.parts) > 5
    [whole] = [one for one in found.candidates if one.box == (0, 0, 76, 60)]
    assert (whole.start, whole.stop, whole.cut_off) == (0, len(found.parts), False)
    assert np.array_equal(mask_of(found, whole), COMB)


def test_each_side_that_is_cut_off_costs() -> None:
    found = [one for one in comb().candidates if one.shared is None and one.box[3] == HEIGHT]
    last = len(comb().parts)
    for one in found:
        sides = (one.start > 0) + (one.stop < last)
        assert one.cost == pytest.approx(CUT_COST * sides) and one.cut_off == (sides > 0)


def test_a_strip_of_the_neighbour_may_be_shared_at_a_price() -> None:
    marks = marks_of([(0, 0, 80, 60)])
    mask = np.zeros((60, 80), np.bool_)
    mask[:, :38] = mask[:, 42:] = mask[29:32] = True
    marks.labels[:] = mask
    found = find_candidates(Line(np.array([0]), float(HEIGHT)), marks)
    shared = {(one.start, one.stop, one.box): one for one in found.candidates if one.shared is not None}
    alone = {(one.start, one.stop): one.cost for one in found.candidates if one.shared is None}
    # Eleven columns of the next part, and of the one before.
    right, left = shared[0, 3, (0, 0, 27, 60)], shared[4, 6, (28, 0, 20, 60)]
    assert np.array_equal(mask_of(found, right), mask[:, :27]) and np.array_equal(mask_of(found, left), mask[:, 28:48])
    assert all(one.cost == pytest.approx(alone[start, stop] + SHARED_COST) for (start, stop, _), one in shared.items())
    widths = [part.box[2] for part in found.parts]
    narrow = {at for at, width in enumerate(widths) if width <= 11}
    assert narrow and not any(
        {start - 1, stop} & narrow and not {start - 1, stop} - narrow for start, stop, _ in shared
    )
    assert max(box[2] for *_, box in shared) <= 81


def test_marks_as_they_are_cost_nothing() -> None:
    found = whole_marks(marks_of([DIGIT, (50, 0, 90, 14)]), 60.0)
    assert [(one.box, one.cost) for one in found.candidates] == [(DIGIT, 0.0), ((50, 0, 90, 14), 0.0)]


def test_marks_beside_each_other_share_nothing() -> None:
    assert [one for one in row(DIGIT, (35, 0, 30, 30)).candidates if one.shared is not None] == []
