"""The benchmark of rows of digits names the causes of mistakes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from benchmarks.rows import mistakes
from shared.numbers import FoundDigit, FoundNumber, PageReading, around
from worker.training.pages.compose import Mark, Page


def page(*rows: str) -> Page:
    """Each digit is a filled square of 20 pixels, 10 pixels from the next."""
    marks, layers = [], np.zeros((2, 40 * len(rows), 30 * max(map(len, rows))), np.int32)
    for row, text in enumerate(rows):
        for place, sign in enumerate(text):
            top, left = 40 * row + 10, 30 * place + 5
            marks.append(
                Mark(sign, "digit" if sign.isdigit() else "sign", row, (top, left, top + 20, left + 20), False)
            )
            layers[len(marks) % 2, top : top + 20, left : left + 20] = len(marks)
    lines = tuple("".join(filter(str.isdigit, text)) for text in rows)
    blank = np.zeros(layers.shape[1:], np.uint8)
    return Page("apart", blank, marks, layers, blank > 0, 20, lines)


def read(shown: Page, *rows: Sequence[tuple[str, str, tuple[int, ...]]]) -> PageReading:
    """A reading of rows of a digit, its decision, and the numbers of the marks in its box."""
    numbers = []
    for row in rows:
        digits = []
        for text, decision, which in row:
            boxes = [(left, top, right - left, bottom - top) for top, left, bottom, right in
                     (shown.marks[at].box for at in which)]  # fmt: skip
            digits.append(FoundDigit(int(text), 0.9, decision, around(boxes)))
        numbers.append(FoundNumber(tuple(digits)))
    return PageReading(tuple(numbers))


def test_a_page_that_is_read_as_written_has_no_mistakes() -> None:
    shown = page("12", "3")
    row = [("1", "accept", (0,)), ("2", "review", (1,))]
    assert mistakes(shown, read(shown, row, [("3", "accept", (2,))])) == []


@pytest.mark.parametrize(
    ("row", "causes"),
    [
        ([("1", "accept", (0,))], ["not found"]),
        ([("1", "accept", (0,)), ("7", "accept", (1,))], ["misread"]),
        ([("1", "accept", (0,)), ("2", "reject", (1,))], ["refused"]),
        ([("8", "accept", (0, 1))], ["not cut"]),
        ([("1", "accept", (0,)), ("2", "accept", (1,)), ("1", "review", (2,))], ["extra"]),
    ],
)
def test_each_mistake_has_its_cause(row: list[tuple[str, str, tuple[int, ...]]], causes: list[str]) -> None:
    shown = page("12-")
    assert mistakes(shown, read(shown, row)) == causes


def test_a_number_in_two_parts_is_parted_wrongly() -> None:
    shown = page("12")
    assert mistakes(shown, read(shown, [("1", "accept", (0,))], [("2", "accept", (1,))])) == ["parted wrongly"]
