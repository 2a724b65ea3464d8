"""A page is laid out: turned, enlarged, bounded in work, and led back to the places on the picture."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tests.drawings import black_on_white, drawn
from worker.page import layout
from worker.page.ink import find_ink, ink_is_dark, reduced, stroke_width
from worker.page.layout import Layout, lay_out
from worker.page.rules import find_rules

Box = tuple[int, int, int, int]


def page(width: int = 400, height: int = 300) -> np.ndarray:
    """Two digits, 60 high, the second lower: uint8 [height, width]."""
    ink = np.maximum(drawn(7, width, height, 60, (60, 50)), drawn(4, width, height, 60, (250, 180)))
    return black_on_white(ink)


def places(found: Layout, shape: tuple[int, ...]) -> list[Box]:
    """The boxes of the digits that were not cut on the picture, from top to bottom."""
    boxes = {found.on_page(one.box, shape) for row in found.rows for one in row.candidates if not one.cut_off}
    return sorted(boxes, key=lambda box: box[1])


def near(found: list[Box], expected: list[Box], off: int) -> bool:
    return np.shape(found) == np.shape(expected) and np.abs(np.subtract(found, expected)).max() <= off


SEVEN, FOUR = (63, 47, 54, 66), (250, 177, 57, 66)


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_boxes_of_a_turned_page_lead_back(quarters: int) -> None:
    grey = page()
    found = lay_out(np.ascontiguousarray(np.rot90(grey, quarters)), quarters)
    shape = np.rot90(grey, quarters).shape
    boxes = [
        (x, y, w, h, 400 - x - w, 300 - y - h) for x, y, w, h in (SEVEN, FOUR)
    ]  # and what is right of and below it
    turned = [[(x, y, w, h), (y, right, h, w), (right, below, w, h), (below, x, h, w)][quarters]
              for x, y, w, h, right, below in boxes]  # fmt: skip
    expected = sorted(turned, key=lambda box: box[1])
    assert near(places(found, shape), expected, 4) and found.quarters == quarters


def leaning(degrees: float, count: int) -> np.ndarray:
    """A line of digits on a page that was turned clockwise by so much."""
    ink = np.zeros((500, 900))
    for at in range(count):
        ink = np.maximum(ink, drawn(7, 900, 500, 60, (150 + 100 * at, 220)))
    turned = Image.fromarray(black_on_white(ink)).rotate(-degrees, Image.Resampling.BILINEAR, fillcolor=255)
    return np.asarray(turned)


@pytest.mark.parametrize(("degrees", "upright"), [(0, True), (5, False), (20, True), (-20, True)])
def test_a_page_that_leans_much_is_turned(degrees: float, upright: bool) -> None:
    grey = leaning(degrees, 6)
    found = lay_out(grey)
    whole = [one for row in found.rows for one in row.candidates if not one.cut_off]
    assert len(whole) == 6  # nothing beside the page is ink
    assert (np.ptp([one.box[1] for one in whole]) <= 6) == upright
    # Wherever it was turned to, its digits lead back to ink.
    dark = grey < 128
    for one in whole:
        left, top, width, height = found.on_page(one.box, grey.shape)
        own = dark[top : top + height, left : left + width]
        assert own.sum() > 400 and own.shape == (height, width)


def test_nothing_is_cut_off_when_a_page_is_turned() -> None:
    ink = np.zeros((500, 300))
    for left in range(10, 260, 60):
        ink = np.maximum(ink, drawn(1, 300, 500, 40, (left, 100 + round(0.577 * left))))
    assert len(places(lay_out(black_on_white(ink)), (500, 300))) == 5


@pytest.mark.parametrize(("height", "scale"), [(120, 3), (121, 1)])
def test_a_small_page_is_enlarged(height: int, scale: int) -> None:
    grey = page(400, 300)[40 : 40 + height]
    found = lay_out(np.ascontiguousarray(grey))
    assert found.level.shape == (scale * height, scale * 400)
    assert near(places(found, grey.shape), [(63, 7, 54, 66)], 4)


def test_a_box_on_the_page_is_within_it_and_never_empty() -> None:
    found = lay_out(page())
    assert found.on_page((-9, -9, 20, 20), (300, 400)) == (0, 0, 11, 11)
    assert found.on_page((390, 290, 50, 50), (300, 400)) == (390, 290, 10, 10)
    assert found.on_page((900, 900, 5, 5), (300, 400)) == (399, 299, 1, 1)
    assert found.on_page((-9, -9, 5, 5), (300, 400)) == (0, 0, 1, 1)


def test_marks_beyond_a_limit_are_left_out_and_that_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not lay_out(page()).crowded
    monkeypatch.setattr(layout, "MOST_MARKS", 2)
    assert not lay_out(page()).crowded
    monkeypatch.setattr(layout, "MOST_MARKS", 1)
    found = lay_out(page())
    assert found.crowded and len(found.marks.number) == 1


def test_a_page_of_too_many_candidates_is_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    ink = np.maximum(drawn(7, 300, 200, 60, (40, 50)), drawn(7, 300, 200, 60, (88, 50)))  # they touch
    grey = black_on_white(ink)
    cut = sum(len(row.candidates) for row in lay_out(grey).rows)
    assert cut > 1
    monkeypatch.setattr(layout, "MOST_CANDIDATES", cut)
    assert sum(len(row.candidates) for row in lay_out(grey).rows) == cut
    monkeypatch.setattr(layout, "MOST_CANDIDATES", cut - 1)
    assert sum(len(row.candidates) for row in lay_out(grey).rows) == 1


def test_a_sample_is_of_marks_of_common_size() -> None:
    ink = drawn(1, 700, 300, 20, (600, 200), pen=0.2)
    for at in range(6):
        ink = np.maximum(ink, drawn(7, 700, 300, 60, (30 + 90 * at, 50)))
    found = lay_out(black_on_white(ink))
    assert len(found.marks.number) == 7
    assert found.sample(10).shape == (6, 28, 28)
    assert len(found.sample(6)) == 6 and len(found.sample(3)) == 3 and len(found.sample(4)) == 3
    assert lay_out(np.full((300, 400), 255, np.uint8)).sample(5).shape == (0, 28, 28)


# Ink


def test_ink_is_dark_or_bright_by_what_is_less() -> None:
    assert ink_is_dark(page()) and not ink_is_dark(255 - page())
    assert np.array_equal(find_ink(page()).mask, find_ink(255 - page()).mask)


def test_the_width_of_strokes_is_twice_their_area_over_their_length() -> None:
    mask = np.zeros((100, 200), np.bool_)
    mask[40:44, 20:180] = True
    assert stroke_width(mask) == pytest.approx(2 * 640 / (328 * np.pi / 4))
    assert stroke_width(np.zeros((9, 9), np.bool_)) == 0


@pytest.mark.parametrize(("levels", "found"), [(11, False), (14, True)])
def test_ink_is_darker_than_paper_by_some_levels(levels: int, found: bool) -> None:
    grey = np.full((200, 300), 255, np.uint8)
    grey[60:140, 100:110] -= np.uint8(levels)
    assert find_ink(grey).mask[70:130, 102:108].all() == found


def test_ink_in_a_shadow_is_ink_and_the_shadow_is_not() -> None:
    light = np.linspace(1, 0.4, 400)[None]
    grey = np.rint(page() * light).astype(np.uint8)
    plain, shaded = find_ink(page()), find_ink(grey)
    assert (plain.mask != shaded.mask).mean() < 0.003
    assert np.abs(plain.level[plain.mask].astype(int) - shaded.level[plain.mask]).mean() < 4


def test_a_thick_stroke_is_not_hollow() -> None:
    grey = np.full((400, 400), 230, np.uint8)
    grey[100:300, 60:84] = grey[100:300, 160:220] = 40  # twice as wide as the window, beside one that fills it nearly
    mask = find_ink(grey).mask
    assert mask[105:295, 65:79].all() and mask[105:295, 165:215].all()


def test_what_is_faint_beside_dark_ink_is_kept_apart() -> None:
    grey = np.full((200, 300), 255, np.uint8)
    grey[60:140, 100:106] = 30
    grey[60:140, 110:113] = 165  # 0.4 of the light, in the neighbourhood of the dark stroke
    found = find_ink(grey)
    assert found.faint[70:130, 111].all() and not found.mask[70:130, 111].any() and found.mask[70:130, 102].all()


def test_a_picture_is_reduced_to_a_side_and_never_enlarged() -> None:
    assert reduced(page(), 200).shape == (150, 200)
    assert reduced(page(), 400).shape == reduced(page(), 900).shape == (300, 400)
    assert reduced(np.zeros((1, 900), np.uint8), 100).shape == (1, 100)


# Rules


def ruled(*lines: tuple[int, int, int, int], size: tuple[int, int] = (300, 400)) -> np.ndarray:
    """Lines from column to column, at a row, and so thick."""
    mask = np.zeros(size, np.bool_)
    for first, last, row, thick in lines:
        mask[row : row + thick, first:last] = True
    return mask


@pytest.mark.parametrize(
    ("first", "last", "thick", "found"),
    [
        (0, 400, 2, True), (100, 230, 2, True), (100, 215, 2, True),
        (100, 145, 2, False),  # an eighth of the longer side
        (100, 215, 4, False),  # not thinner than the pen: three tenths of it
        (100, 225, 4, True),
        (0, 400, 11, False),  # thicker than 1.6 strokes
        (150, 215, 2, True),
    ],
)  # fmt: skip
def test_a_rule_is_long_and_thin(first: int, last: int, thick: int, found: bool) -> None:
    mask = ruled((first, last, 100, thick))
    assert find_rules(mask, 5.0).any() == found == find_rules(np.ascontiguousarray(mask.T), 5.0).any()


@pytest.mark.parametrize(("slope", "found"), [(0.0, True), (0.4, True), (0.7, False)])
def test_a_rule_is_nearly_level_or_upright(slope: float, found: bool) -> None:
    columns = np.arange(260)
    mask = np.zeros((300, 300), np.bool_)
    for thick in range(3):
        mask[(60 + slope * columns).astype(int) + thick, 20 + columns] = True
    assert find_rules(mask, 5.0).any() == found


def test_strokes_that_cross_a_rule_stay_whole() -> None:
    mask = ruled((0, 400, 100, 2))
    mask[60:140, 200:206] = True
    found = find_rules(mask, 5.0)
    assert found[100:102, :199].all() and found[100:102, 207:].all() and not found[:, 200:206].any()


def test_a_broken_rule_is_followed_over_its_gaps() -> None:
    mask = ruled((0, 180, 100, 2), (188, 400, 100, 2))
    found = find_rules(mask, 5.0)
    assert found[100:102, :180].all() and found[100:102, 188:].all() and not found[:, 182:186].any()


def test_behind_a_blot_and_a_short_gap_a_rule_goes_on() -> None:
    mask = ruled((0, 250, 100, 2), (250, 285, 80, 50), (293, 320, 100, 2))
    found = find_rules(mask, 5.0)
    assert found[100:102, :250].all() and found[100:102, 293:320].all() and not found[:, 250:285].any()


def test_beyond_a_long_gap_a_rule_has_ended() -> None:
    mask = ruled((0, 250, 100, 2), (275, 300, 100, 2))
    found = find_rules(mask, 5.0)
    assert found[100:102, :250].all() and not found[:, 275:].any()


def test_on_ruled_paper_broken_lines_as_thin_as_the_others_count() -> None:
    pieces = [(first, first + 46, 200, 2) for first in range(0, 380, 66)]  # gaps of 20 pixels
    assert not find_rules(ruled(*pieces), 5.0).any()
    whole = [(0, 400, row, 2) for row in (50, 100, 150)]
    assert find_rules(ruled(*whole, *pieces), 5.0)[200:202].sum() > 200
    assert not find_rules(ruled(*whole[:2], *pieces), 5.0)[200:202].any()


@pytest.mark.parametrize("side", [1400, 1500])
def test_on_a_large_page_lines_are_where_they_are(side: int) -> None:
    mask = ruled((0, side, 301, 5), size=(600, side))
    mask[250:350, 700:712] = True
    found = find_rules(mask, 10.0)
    assert found[302:305, 50:690].all() and not found[:300].any() and not found[307:].any()
    assert not found[:, 702:710].any()
