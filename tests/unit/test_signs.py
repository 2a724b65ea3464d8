"""Signs between and beside the digits of a number are no part of its text, and are told of."""

from __future__ import annotations

import numpy as np
import pytest

from shared.numbers import Box
from tests.drawings import drawn
from tests.unit.test_read_pages import HEIGHT, WIDTH, on_paper, reading, written
from worker.inference import page_digits
from worker.page.candidates import Candidate, Part, Row
from worker.page.signs import has_sign, taken_marks

#: Rows and columns of ink beside or between a 4 and a 5, which are in rows 47 to 113 and columns 63 to 243.
Rectangle = tuple[int, int, int, int]
POINT, COMMA, DASH, MINUS = (106, 114, 145, 153), (104, 124, 145, 153), (78, 84, 135, 165), (78, 84, 20, 48)


def signed(text: str, *ink: Rectangle) -> list[tuple[str, bool]]:
    page = written(text)
    for top, bottom, left, right in ink:
        page[top:bottom, left:right] = 1
    return [(number.text, number.signs) for number in reading(on_paper(page)).numbers if number.text]


@pytest.mark.parametrize("sign", [POINT, COMMA, DASH])
def test_a_sign_between_digits_is_told_of(sign: Rectangle) -> None:
    assert signed("4 5", sign) == [("45", True)]


def test_a_sign_beside_digits_is_told_of() -> None:
    assert signed("45", MINUS) == [("45", True)]


def decisions(ink: np.ndarray) -> list[str]:
    return [digit.decision for digit in reading(on_paper(ink)).digits]


def test_1s_that_stand_around_lower_digits_may_be_brackets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_digits, "_is_plain", lambda *_: False)  # these are as straight as print
    before, after = (drawn(1, WIDTH, HEIGHT, 80, (left, 40)) for left in (60, 235))
    inner = written(" 48")
    assert decisions(np.maximum(np.maximum(before, after), inner)) == ["review", "accept", "accept", "review"]
    assert decisions(np.maximum(before, written(" 481"))) == ["accept"] * 4
    assert decisions(np.maximum(after, written("148"))) == ["accept"] * 4
    assert decisions(written("1481")) == ["accept"] * 4


def test_digits_alone_have_no_sign() -> None:
    assert signed("45") == [("45", False)]


def test_a_number_with_a_rejected_digit_is_rejected_and_says_nothing_of_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_digits, "_decision", lambda one, *_: "reject" if one.digit == 5 else "accept")
    assert signed("4 5", DASH) == [("4", False)]


def test_only_the_number_with_a_sign_has_it() -> None:
    assert signed("4 5    78", DASH) == [("45", True), ("78", False)]


#: Two digits of 20 by 40 pixels, with strokes of 4, and room for a sign between them.
DIGITS: list[Box] = [(60, 60, 20, 40), (120, 60, 20, 40)]


def beside(ink: Rectangle, digits: list[Box] = DIGITS, shape: np.ndarray | bool = True) -> bool:
    """Return whether a piece of ink, full or of a shape, is a sign of the two digits; `ink` is its rows and columns."""
    labels = np.zeros((170, 220), np.int32)
    for number, (left, top, width, height) in enumerate(DIGITS, 1):
        labels[top : top + height, left : left + 4] = number
        labels[top : top + 4, left : left + width] = number
    first, last, start, stop = ink
    labels[first:last, start:stop] = np.where(shape, 3, 0)
    taken = np.array([True, True, True, False])
    return has_sign(labels, taken, digits)


@pytest.mark.parametrize(
    ("sign", "ink"),
    [
        ("a point", (96, 101, 98, 103)),
        ("a comma under the end of a digit", (94, 108, 72, 77)),
        ("a dash", (78, 82, 90, 110)),
        ("a slash", (58, 102, 98, 103)),
        ("a minus", (78, 82, 35, 50)),
        ("a bracket", (55, 105, 148, 154)),
        ("a degree", (58, 68, 146, 156)),
    ],
)
def test_ink_at_the_place_of_a_sign_is_one(sign: str, ink: Rectangle) -> None:
    assert beside(ink), sign


@pytest.mark.parametrize(
    ("other", "ink"),
    [
        ("a speck", (98, 101, 98, 101)),
        ("a hairline", (80, 81, 85, 115)),
        ("a line across", (80, 84, 0, 220)),
        ("a line that goes on downwards", (90, 170, 98, 103)),
        ("an underline", (104, 108, 75, 125)),
        ("what crosses a digit out", (80, 84, 66, 78)),
        ("a dash far beside", (78, 82, 10, 25)),
        ("a letter beside", (70, 100, 145, 165)),
        ("ink above the line", (40, 46, 95, 105)),
        ("ink below the line", (116, 122, 95, 105)),
    ],
)
def test_other_ink_is_no_sign(other: str, ink: Rectangle) -> None:
    assert not beside(ink), other


def test_a_plus_beside_digits_is_a_sign_and_a_letter_as_high_is_not() -> None:
    cross, corner = np.zeros((26, 26), np.bool_), np.zeros((26, 26), np.bool_)
    cross[11:15], cross[:, 11:15] = True, True
    corner[-4:], corner[:, :4] = True, True
    place = (67, 93, 145, 171)
    assert beside(place, shape=cross)
    assert not any(beside(place, shape=np.rot90(corner, turns)) for turns in range(4))


def test_no_digits_have_no_sign() -> None:
    assert not beside((96, 101, 98, 103), digits=[])


def test_ink_of_digits_is_taken_and_the_rest_is_not() -> None:
    labels = np.zeros((9, 9), np.int32)
    labels[2:5, 2:5], labels[6, 6] = 3, 4
    part = Part((2, 2, 3, 3), np.ones((3, 3), np.bool_), 0, 9)
    taken = taken_marks(labels, [(Row(3.0, [part]), Candidate(0, 1, part.box, 0.0))])
    assert taken.tolist() == [True, False, False, True, False]
