"""Marks are cut where digits may touch, and what belongs to one digit is put together."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from tests.drawings import drawn
from worker.page.candidates import SIGN_COST, Candidate, Row, find_candidates, mask_of
from worker.page.cuts import cut, cut_columns
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


#: On the copies on which cuts are found a digit is 40 high; its strokes are 5 wide.
HEIGHT, STROKE = 40, 5.0


def bridged(bridge: np.ndarray, block: int = 20) -> np.ndarray:
    """Two blocks, as high as a digit, with these columns between them: float64 [40, w]."""
    full = np.ones((HEIGHT, block))
    return np.hstack([full, bridge, full])


def columns(*rows: slice, wide: int = 3) -> np.ndarray:
    """Columns that are inked in these rows."""
    ink = np.zeros((HEIGHT, wide))
    for one in rows:
        ink[one] = 1
    return ink


@pytest.mark.parametrize(("high", "found"), [(32, True), (33, False)])
def test_a_column_is_low_beside_others_that_are_higher(high: int, found: bool) -> None:
    cuts = cut_columns(bridged(columns(slice(high))), HEIGHT, STROKE)
    assert len(cuts) == found and all(20 <= at < 23 for at in cuts)


@pytest.mark.parametrize(("ink", "found"), [(8, True), (9, False)])
def test_a_column_is_thin_with_little_ink(ink: int, found: bool) -> None:
    cuts = cut_columns(bridged(columns(slice(4), slice(4 + HEIGHT - ink, HEIGHT))), HEIGHT, STROKE)
    assert len(cuts) == found and all(20 <= at < 23 for at in cuts)


def test_cuts_are_apart_from_each_other_and_from_the_ends() -> None:
    cuts = cut_columns(bridged(columns(slice(20), wide=30)), HEIGHT, STROKE)
    assert len(cuts) > 2 and min(np.diff(cuts)) == 5
    for block in (4, 5):
        cuts = cut_columns(bridged(columns(slice(20), wide=1), block), HEIGHT, STROKE)
        assert cuts == [block] * (block == 5)


@pytest.mark.parametrize(("wide", "cuts"), [(47, [43]), (48, [])])
def test_what_is_low_over_a_long_way_is_not_cut(wide: int, cuts: list[int]) -> None:
    assert cut_columns(bridged(columns(slice(20), wide=wide)), HEIGHT, STROKE) == cuts


def test_of_low_columns_the_lower_is_cut_first_however_much_ink_it_has() -> None:
    high = columns(slice(1), slice(29, 30), wide=2)
    assert cut_columns(bridged(np.hstack([high, columns(slice(10), wide=1), high])), HEIGHT, STROKE) == [22]


def test_cuts_go_to_the_right() -> None:
    first, second = columns(slice(30), wide=1), columns(slice(10), wide=1)
    assert cut_columns(bridged(np.hstack([first, np.ones((HEIGHT, 9)), second])), HEIGHT, STROKE) == [20, 30]


@pytest.mark.parametrize(("wide", "high", "pieces"), [(44, 60, 1), (45, 60, 2), (80, 23, 1), (80, 24, 2)])
def test_narrow_and_low_marks_are_not_cut(wide: int, high: int, pieces: int) -> None:
    mask = np.ones((high, wide), np.bool_)
    mask[: high // 2, wide // 2 - 2 : wide // 2 + 2] = False
    assert (len(cut(mask, 60)) > 1) == (pieces > 1)


def test_the_pieces_are_the_mark() -> None:
    mask = rings((40, 45), (84, 45))[:, 40:130]
    pieces = cut(mask, SIZE)
    assert len(pieces) > 1 and np.array_equal(sum(piece.astype(int) for piece in pieces), mask)
