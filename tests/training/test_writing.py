"""Pages of numbers that one hand writes with one pen."""

from __future__ import annotations

import numpy as np
import pytest

from tests.drawings import digits
from worker.page.ink import stroke_width
from worker.training.pages.compose import Page
from worker.training.pages.marks import SOFT, Hand, Ink
from worker.training.pages.writing import HEIGHTS, SAME_PEN, Digits, write

DIGITS = Digits.of(*digits(60))


def written(rows: int, seed: int) -> Page:
    return write(DIGITS, rows, np.random.default_rng(seed))


def test_a_written_page_depends_on_the_generator_alone():
    one, same, other = (written(4, seed) for seed in (3, 3, 4))
    assert np.array_equal(one.picture, same.picture)
    assert one.marks == same.marks
    assert one.marks != other.marks


def test_a_page_has_one_row_or_up_to_as_many_as_wanted_each_of_digits_that_were_written():
    assert {len(written(1, seed).lines) for seed in range(4)} == {1}
    pages = [written(3, seed) for seed in range(8)]
    assert {len(page.lines) for page in pages} == {2, 3}
    for page in pages:
        assert HEIGHTS[0] <= page.height <= HEIGHTS[1]
        assert "".join(page.lines) == "".join(mark.text for mark in page.marks if mark.kind == "digit")
        assert not any(mark.printed for mark in page.marks)


def test_marks_of_a_page_on_which_none_touch_are_apart():
    page = next(
        page for page in (written(3, seed) for seed in range(9)) if page.kind == "apart" and len(page.marks) > 5
    )
    assert not (page.layers[0].astype(bool) & page.layers[1].astype(bool)).any()


def test_digits_of_a_page_have_strokes_of_one_width(monkeypatch: pytest.MonkeyPatch):
    chosen: list[np.ndarray] = []

    def watched(hand: Hand, _: np.random.Generator) -> Ink:
        chosen.append(hand.images)
        return Ink("1", np.full((20, 3), 255, np.uint8), 0.0)

    monkeypatch.setattr(Hand, "digit", watched)
    written(1, 0)
    widths = [stroke_width(image > SOFT) for image in chosen[0]]
    assert 0 < len(widths) < len(DIGITS.images)
    assert max(widths) / min(widths) <= np.exp(2 * SAME_PEN)
