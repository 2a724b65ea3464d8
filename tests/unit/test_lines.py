"""Marks are grouped into lines of text: neighbours, exponents, indices and dashes; and how far the lines lean."""

from __future__ import annotations

import numpy as np
import pytest

from tests.marked import Box, marks_of
from worker.page.lines import find_lines
from worker.page.skew import lean

#: Two digits of a line, 20 high, at row 100.
FIRST, SECOND = (100, 100, 10, 20), (120, 100, 10, 20)


def lines(*boxes: Box, flat: tuple[Box, ...] = (), leaning: float = 0.0) -> list[list[int]]:
    return [line.marks.tolist() for line in find_lines(marks_of(boxes, flat), leaning)]


def together(*boxes: Box, flat: tuple[Box, ...] = ()) -> bool:
    """Tell whether all are on one line."""
    return [len(line) for line in lines(*boxes, flat=flat)] == [len(boxes) + len(flat)]


def test_lines_go_down_the_page_and_their_marks_to_the_right() -> None:
    assert lines((130, 200, 10, 20), SECOND, (100, 201, 10, 20), FIRST) == [[3, 1], [2, 0]]
    assert lines() == lines(flat=((100, 100, 20, 4),)) == []


@pytest.mark.parametrize(("gap", "joined"), [(60, True), (61, False)])
def test_a_neighbour_is_at_most_three_heights_away(gap: int, joined: bool) -> None:
    assert together(FIRST, (110 + gap, 111, 10, 20)) == joined


@pytest.mark.parametrize(("top", "joined"), [(112, True), (113, False), (88, True), (87, False)])
def test_neighbours_share_two_fifths_of_their_height(top: int, joined: bool) -> None:
    assert together(FIRST, (120, top, 10, 20)) == joined


@pytest.mark.parametrize(("high", "joined"), [(50, True), (51, False)])
@pytest.mark.parametrize("left", [120, 400], ids=["near", "far"])
def test_one_that_is_much_higher_is_on_another_line(high: int, left: int, joined: bool) -> None:
    assert together(FIRST, (left, 85, 10, high)) == joined


@pytest.mark.parametrize(("top", "joined"), [(109, True), (110, False)])
def test_what_is_far_apart_is_on_one_line_if_most_of_its_height_is_shared(top: int, joined: bool) -> None:
    assert together(FIRST, (400, top, 10, 20)) == joined


def test_a_mark_that_is_far_joins_the_line_at_its_height() -> None:
    third = [(left, 200, 10, 20) for left in (100, 120, 400)]
    assert lines(FIRST, SECOND, (140, 100, 10, 20), *third) == [[0, 1, 2], [3, 4, 5]]


def test_the_nearest_neighbour_decides() -> None:
    assert lines(FIRST, (120, 98, 10, 20), (140, 111, 10, 20)) == [[0, 1], [2]]


BASE = (100, 100, 20, 40)


@pytest.mark.parametrize(
    ("box", "joined"),
    [
        ((144, 75, 10, 20), True), ((145, 75, 10, 20), False),  # 0.6 heights to the right
        ((125, 57, 10, 20), True), ((125, 56, 10, 20), False),  # as far above
        ((125, 163, 10, 20), True), ((125, 164, 10, 20), False),  # and below
        ((125, 59, 10, 36), True), ((125, 58, 10, 37), False),  # 0.9 as high
        ((109, 75, 10, 20), True), ((108, 75, 10, 20), False),  # over its last 0.3
    ],
)  # fmt: skip
def test_an_exponent_or_an_index_is_low_and_at_a_corner(box: Box, joined: bool) -> None:
    assert together(BASE, box) == joined


def test_what_begins_before_a_digit_is_no_exponent_of_it() -> None:
    assert not together((100, 100, 5, 40), (99, 75, 5, 20))


def test_exponents_have_at_most_two_digits() -> None:
    several = [(125 + 12 * at, 75, 10, 20) for at in range(3)]
    assert together(BASE, *several[:2]) and not together(BASE, *several)


@pytest.mark.parametrize(("left", "joined"), [(190, True), (189, False)])
def test_two_marks_beneath_others_are_a_line_of_their_own(left: int, joined: bool) -> None:
    assert together((100, 100, 100, 40), (left, 145, 10, 20), (left + 12, 145, 10, 20)) == joined


@pytest.mark.parametrize(
    ("dash", "joined"),
    [
        ((149, 109, 8, 2), True), ((150, 109, 8, 2), False), ((81, 109, 8, 2), True), ((80, 109, 8, 2), False),
        ((112, 122, 8, 2), True), ((112, 123, 8, 2), False), ((112, 96, 8, 2), True), ((112, 95, 8, 2), False),
    ],
)  # fmt: skip
def test_a_dash_belongs_to_a_line_within_a_height_beside_and_less_above_or_below(dash: Box, joined: bool) -> None:
    assert together(FIRST, SECOND, flat=(dash,)) == joined


def test_a_dash_between_two_lines_belongs_to_the_nearer() -> None:
    below = [(left, top + 24, wide, high) for left, top, wide, high in (FIRST, SECOND)]
    assert lines(FIRST, SECOND, *below, flat=((112, 122, 8, 2),)) == [[0, 1], [2, 4, 3]]
    assert lines(FIRST, SECOND, *below, flat=((112, 120, 8, 2),)) == [[0, 4, 1], [2, 3]]


@pytest.mark.parametrize(("high", "kept"), [(8, True), (7, False)])
def test_a_line_of_specks_is_none(high: int, kept: bool) -> None:
    assert lines((100, 100, 5, high)) == [[0]] * kept


@pytest.mark.parametrize(("high", "kept"), [(12, True), (11, False)])
def test_a_line_much_lower_than_the_others_is_none(high: int, kept: bool) -> None:
    page = [(100 + 30 * at, 100, 20, 40) for at in range(8)]
    assert (len(lines(*page, (100, 300, 8, high))) == 2) == kept


def test_a_digit_is_as_high_as_the_higher_marks_of_the_line() -> None:
    commas = [(100 + 30 * at, 114, 5, 8) for at in range(4)]
    heights = [line.height for line in find_lines(marks_of([*commas, (220, 100, 10, 20), (240, 100, 10, 22)]), 0.0)]
    assert heights == [21.0]


def leaning(degrees: float, count: int = 8) -> list[Box]:
    at = np.arange(count) * 40
    return [(100 + left, round(400 + left * np.tan(np.radians(degrees))), 10, 20) for left in at.tolist()]


def test_lines_that_lean_are_found_by_their_lean() -> None:
    assert [len(line) for line in lines(*leaning(20), leaning=20)] == [8]
    assert [len(line) for line in lines(*leaning(-20), leaning=-20)] == [8]
    assert len(lines(*leaning(20))) == 8


@pytest.mark.parametrize("degrees", [-35, -20, -7.5, 0, 3.25, 12, 35])
def test_the_lean_of_a_line_is_found(degrees: float) -> None:
    assert lean(marks_of(leaning(degrees))) == pytest.approx(degrees, abs=0.26)


def test_two_marks_have_no_lean_and_dashes_none_either() -> None:
    assert lean(marks_of(leaning(12, 2))) == 0 == lean(marks_of(leaning(12, 2), flat=leaning(12)[2:]))
    assert lean(marks_of([(100, 100, 10, 20), (900, 100, 10, 20), (1700, 100, 10, 20)])) == 0


def test_marks_of_other_heights_have_no_say() -> None:
    large = [(100 * at, 400, 10, 20) for at in range(1, 4)]
    small = [(left + 31, 406 + 12, 5, 8) for left, *_ in large]
    assert lean(marks_of([*large, *small])) == 0


def test_only_neighbours_have_a_say() -> None:
    pairs = [box for at in range(3) for box in ((400 * at, 400, 10, 20), (400 * at + 60, 416, 10, 20))]
    assert lean(marks_of(pairs)) == pytest.approx(15, abs=0.5)


def test_of_two_leans_as_good_the_smaller_is_meant() -> None:
    level, steep = (160, 100, 10, 20), (220, 70, 10, 20)
    assert lean(marks_of([(100, 100, 10, 20), level, steep])) == 0


def test_marks_five_heights_apart_are_neighbours() -> None:
    assert lean(marks_of([(96 * at, 400 + 28 * at, 10, 20) for at in range(3)])) == pytest.approx(16.25, abs=0.26)


def test_of_many_marks_some_are_enough() -> None:
    page = [(40 * at, 40 * row + at, 10, 20) for row in range(25) for at in range(20)]
    assert lean(marks_of(page)) == pytest.approx(1.5, abs=0.5)
