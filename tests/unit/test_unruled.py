"""Ruling is taken off the ink of a page, and what is as pale as ruling goes with it."""

from __future__ import annotations

import numpy as np

from worker.page.ink import find_ink
from worker.page.unruled import unruled

PAPER, LINE, PEN = 230, 175, 50
#: A stroke of the pen, and a bit of a line, too short to be found.
STROKE, BIT = np.s_[80:140, 60:66], np.s_[90:130, 200:203]


def page(*, lines: bool) -> np.ndarray:
    """A page of one stroke and of a bit of a line, uint8 [200, 300], with lines or without."""
    grey = np.full((200, 300), PAPER, np.uint8)
    if lines:
        grey[30:180:50] = grey[31:180:50] = LINE
    grey[STROKE], grey[BIT] = PEN, LINE
    return grey


def test_a_bit_of_a_pale_line_goes_with_the_lines_that_are_found_and_the_pen_stays() -> None:
    mask, rules = unruled(find_ink(page(lines=True)))
    assert rules.any() and mask[STROKE].all() and not mask[BIT].any()


def test_the_pen_is_told_from_pale_lines_most_of_which_were_not_found() -> None:
    grey = page(lines=True)
    for left in range(100, 148, 8):
        grey[90:130, left : left + 3] = LINE
    mask, _ = unruled(find_ink(grey))
    assert mask[STROKE].all() and not mask[90:130, 100:203].any()


def test_a_pale_stroke_stays_on_blank_paper() -> None:
    mask, rules = unruled(find_ink(page(lines=False)))
    assert not rules.any() and mask[STROKE].all() and mask[BIT].all()
