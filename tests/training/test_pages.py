"""Pages composed with their truth."""

from __future__ import annotations

import numpy as np
import pytest

from tests.drawings import digits
from worker.training.pages.compose import Page, compose
from worker.training.pages.sheets import KINDS

IMAGES, LABELS = digits(40)


def composed(kind: str, seed: int) -> Page:
    return compose(IMAGES, LABELS, np.random.default_rng(seed), kind=kind)


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_depends_on_the_generator_alone(kind):
    one, same, other = (composed(kind, seed) for seed in (4, 4, 5))
    assert np.array_equal(one.picture, same.picture)
    assert one.marks == same.marks
    assert one.picture.shape != other.picture.shape or not np.array_equal(one.picture, other.picture)


@pytest.mark.parametrize("kind", KINDS)
def test_every_mark_lies_in_its_box_and_is_told_from_its_neighbours(kind):
    page = composed(kind, 1)
    assert page.marks
    for number, mark in enumerate(page.marks, 1):
        top, left, bottom, right = mark.box
        inside = page.layers[(number - 1) % 2] == number
        assert inside[top:bottom, left:right].sum() == inside.sum() > 0


def test_the_lines_are_the_digits_of_the_marks_in_reading_order():
    for seed in range(5):
        for kind in KINDS:
            page = composed(kind, seed)
            read = "".join(mark.text for mark in page.marks if mark.kind == "digit")
            assert "".join(page.lines).replace(".", "") == read


def test_a_page_of_letters_has_no_digit_and_a_sudoku_nine_rows_of_nine():
    assert not any(composed("letters", seed).lines[0] for seed in range(3))
    assert [len(line) for line in composed("sudoku", 2).lines] == [9] * 9


def test_ink_stands_out_from_the_paper():
    for kind in KINDS:
        page = composed(kind, 3)
        inked = page.layers.any(axis=0)
        levels = page.picture.astype(float)
        assert abs(levels[inked].mean() - np.median(levels[~inked])) > 20, kind
