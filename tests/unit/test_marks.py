"""Tests of which pieces of ink count as marks of a page: specks, dots, frames, boxes and ticks of forms do not."""

from __future__ import annotations

import numpy as np
import pytest

from worker.image.arrays import Mask
from worker.page.marks import find_marks

NO_RULES = np.zeros((100, 100), np.bool_)
Box = tuple[int, int, int, int]


def drawn(*boxes: Box, size: tuple[int, int] = (100, 100)) -> Mask:
    """Ink in these boxes: left, top, width, height."""
    mask = np.zeros(size, np.bool_)
    for left, top, width, height in boxes:
        mask[top : top + height, left : left + width] = True
    return mask


def found(mask: Mask, rules: Mask | None = None, stroke: float = 4.0) -> list[Box]:
    marks = find_marks(mask, np.zeros_like(mask) if rules is None else rules, stroke)
    boxes = zip(marks.left, marks.top, marks.width, marks.height, strict=True)
    return [(int(left), int(top), int(width), int(height)) for left, top, width, height in boxes]


def outline(left: int, top: int, width: int, height: int, thick: int = 2) -> list[Box]:
    return [(left, top, width, thick), (left, top + height - thick, width, thick), (left, top, thick, height),
            (left + width - thick, top, thick, height)]  # fmt: skip


def test_pieces_that_touch_at_a_corner_are_one_and_paper_is_none() -> None:
    assert found(drawn((10, 10, 4, 20), (14, 30, 4, 20))) == [(10, 10, 8, 40)]
    assert found(drawn((10, 10, 4, 20), (15, 30, 4, 20))) == [(10, 10, 4, 20), (15, 30, 4, 20)]
    assert found(NO_RULES) == []


@pytest.mark.parametrize(
    ("box", "stroke", "kept"),
    [
        ((10, 10, 3, 8), 4.0, True), ((10, 10, 3, 7), 4.0, False),  # 1.5 squares of a stroke are 24 pixels
        ((10, 10, 2, 4), 1.0, True), ((10, 10, 3, 3), 1.0, False),  # four pixels long
    ],
)  # fmt: skip
def test_a_speck_is_no_mark(box: Box, stroke: float, kept: bool) -> None:
    assert (found(drawn(box), stroke=stroke) == [box]) == kept


def test_a_dot_is_no_mark_and_what_is_as_large_but_thin_is_one() -> None:
    assert found(drawn((10, 10, 10, 10))) == []  # less than three strokes
    assert found(drawn((10, 10, 12, 12))) == [(10, 10, 12, 12)]
    thin = drawn((10, 10, 10, 5))
    thin[15:20, 14] = True
    assert found(thin) == [(10, 10, 10, 10)]  # 55 of 100 pixels
    thin[15, 15] = True
    assert found(thin) == []


@pytest.mark.parametrize(
    ("width", "height", "dash"), [(33, 15, True), (32, 15, False), (50, 15, True), (50, 16, False)]
)
def test_a_dash_is_wide_and_low(width: int, height: int, dash: bool) -> None:
    assert find_marks(drawn((10, 10, width, height)), NO_RULES, 4.0).flat.tolist() == [dash]


def test_a_frame_is_no_mark_and_what_fills_its_middle_is_one() -> None:
    frame = outline(10, 10, 80, 80)
    assert found(drawn(*frame)) == []
    for inner, kept in ([], False), ([(10, 49, 80, 2), (49, 10, 2, 80)], True):
        mask = drawn(*frame, *inner)
        mask[20:30, 10:12] = False  # else it is a box
        assert found(mask) == [(10, 10, 80, 80)] * kept


def test_what_reaches_from_side_to_side_is_a_line() -> None:
    assert found(drawn((0, 30, 100, 49))) == []
    for box in ((0, 30, 100, 50), (1, 30, 99, 20), (30, 0, 20, 100)):
        assert found(drawn(box)) == [box]
    assert found(drawn((9, 0, 151, 100), size=(100, 400))) == []
    for box in ((9, 0, 150, 100), (9, 1, 160, 99)):
        assert found(drawn(box, size=(100, 400))) == [box]


def test_an_empty_box_is_no_mark_and_a_ring_is_one() -> None:
    box = outline(20, 20, 30, 40)
    assert found(drawn(*box)) == []
    broken = drawn(*box)
    broken[20:22, 24:28] = False  # 26 of 30
    assert found(broken) == [(20, 20, 30, 40)]
    rows, columns = np.ogrid[:100, :100]
    distance = np.hypot(rows - 50, columns - 50)
    assert found((distance < 22) & (distance > 17)) == [(29, 29, 43, 43)]


RULES = drawn((0, 20, 100, 2), (0, 70, 100, 2))
TICK: Box = (40, 23, 2, 46)


def test_a_short_line_between_rules_is_no_mark_across_or_along() -> None:
    assert found(drawn(TICK), RULES, 2.0) == []
    assert found(drawn((23, 40, 46, 2)), RULES.T, 2.0) == []
    assert found(drawn(TICK), stroke=2.0) == [TICK]
    assert found(drawn((23, 40, 44, 2)), RULES.T, 2.0) == [(23, 40, 44, 2)]  # it joins but one


@pytest.mark.parametrize("box", [(40, 24, 2, 45), (40, 23, 2, 44), (40, 23, 5, 46)])
def test_a_mark_that_ends_before_the_rule_or_is_thicker_than_it_stays(box: Box) -> None:
    assert found(drawn(box), RULES, 2.0) == [box]


def test_the_rule_beyond_the_border_counts() -> None:
    rules = drawn((0, 20, 100, 2))
    assert found(drawn((40, 23, 2, 77)), rules, 2.0) == []
    assert found(drawn((40, 23, 2, 76)), rules, 2.0) == [(40, 23, 2, 76)]


def test_marks_keep_their_ink_when_some_are_chosen() -> None:
    marks = find_marks(drawn((10, 10, 4, 20), (30, 10, 4, 30)), NO_RULES, 4.0)
    [chosen] = [marks.chosen(np.array([False, True]))]
    assert (chosen.height.tolist(), chosen.mask(0).sum(), chosen.area.tolist()) == ([30], 120, [120])
    assert [middle.tolist() for middle in chosen.middle] == [[32.0], [25.0]]
