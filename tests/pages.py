"""Readings of pages, and pages of digits that the tests draw themselves."""

from __future__ import annotations

import numpy as np

from shared.numbers import FoundDigit, FoundGrid, FoundNumber, PageReading
from tests.drawings import black_on_white, drawn, encoded


def number(text: str, left: int, top: int, decision: str = "accept") -> FoundNumber:
    """Digits of 10 by 20 pixels side by side."""
    return FoundNumber(
        tuple(FoundDigit(int(one), 0.99, decision, (left + 12 * at, top, 10, 20)) for at, one in enumerate(text))
    )


#: Two rows of numbers, one of them to be checked.
PAGE = PageReading((number("735426", 10, 10), number("12", 200, 12, "review"), number("90", 10, 60)))
#: A table of two rows and two columns.
SUDOKU = PageReading(
    (number("1", 5, 5), number("2", 45, 45)),
    FoundGrid((("1", ""), ("", "2")), (((0, 0, 40, 40), (40, 0, 40, 40)), ((0, 40, 40, 40), (40, 40, 40, 40)))),
)


def two_digits(width: int = 300, height: int = 200) -> np.ndarray:
    """A 7 and a 4 on paper, side by side: uint8 [height, width]."""
    return black_on_white(np.maximum(drawn(7, width, height, 80, (30, 50)), drawn(4, width, height, 80, (180, 50))))


def page() -> bytes:
    """The same as a PNG file."""
    return encoded(two_digits())
