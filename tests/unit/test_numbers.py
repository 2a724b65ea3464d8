"""Tests of the reading of a page of numbers: its text, its JSON, and the compact form that is stored."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from shared.numbers import FoundDigit, FoundGrid, FoundNumber, PageReading
from tests.pages import PAGE, SUDOKU, number


def test_numbers_beside_each_other_are_one_line_of_text() -> None:
    page = PageReading((number("12", 10, 10), number("345", 100, 14), number("6", 10, 60)))
    assert page.lines == ["12 345", "6"]


@pytest.mark.parametrize("rotated", [90, 270])
def test_a_page_turned_by_a_quarter_has_its_lines_from_top_to_bottom_of_the_upload(rotated: int) -> None:
    page = PageReading((number("1", 10, 10), number("2", 10, 100), number("3", 60, 10)), rotated=rotated)
    assert page.lines == ["1 2", "3"]


def test_rejected_digits_are_no_part_of_the_text() -> None:
    one = number("12", 0, 0)
    rejected = replace(one.digits[0], decision="reject")
    assert FoundNumber((rejected, one.digits[1])).text == "2"
    assert PageReading((FoundNumber((rejected,)),)).lines == []


def test_a_number_without_text_has_no_confidence() -> None:
    assert FoundNumber((FoundDigit(1, 0.3, "reject", (0, 0, 9, 9)),)).confidence == 0


def test_the_weakest_decision_counts_and_none_is_a_rejection() -> None:
    one = number("123", 0, 0)
    decided = [
        replace(digit, decision=how) for digit, how in zip(one.digits, ("accept", "review", "accept"), strict=True)
    ]
    assert FoundNumber(tuple(decided)).decision == "review"
    assert PageReading((FoundNumber(tuple(decided)), number("9", 0, 50, "reject"))).decision == "reject"
    assert PageReading().decision == "reject"


@pytest.mark.parametrize(("top", "rows"), [(14, 1), (15, 1), (16, 2)])
def test_numbers_are_in_one_row_where_they_share_half_of_the_lower(top: int, rows: int) -> None:
    high, low = (FoundDigit(1, 0.9, "accept", box) for box in ((0, 0, 10, 20), (50, top, 10, 10)))
    assert len(PageReading((FoundNumber((high,)), FoundNumber((low,)))).rows) == rows


def test_the_text_of_a_table_is_a_line_for_each_row() -> None:
    assert SUDOKU.lines == ["1.", ".2"]
    wide = FoundGrid((("10", ""), ("7", "8")), SUDOKU.grid.boxes if SUDOKU.grid else ())
    assert replace(SUDOKU, grid=wide).lines == ["10 .", "7 8"]


SIGNED = replace(PAGE, numbers=(PAGE.numbers[0], replace(PAGE.numbers[1], signs=True), PAGE.numbers[2]))


@pytest.mark.parametrize("page", [PAGE, SUDOKU, PageReading(), replace(PAGE, rotated=90), SIGNED])
def test_a_reading_survives_storage_and_json(page: PageReading) -> None:
    stored = PageReading.from_noted(json.loads(json.dumps(page.noted())))
    shown = PageReading.from_json(json.loads(json.dumps(page.to_json())))
    assert (stored, shown) == (page, page)


def test_only_numbers_with_signs_say_so() -> None:
    assert [one.get("signs") for one in SIGNED.to_json()["numbers"]] == [None, True, None]


def test_a_picture_read_as_a_digit_has_no_reading() -> None:
    assert PageReading.from_json({"digit": 7}) is None and PageReading.from_noted({"digit": 7}) is None


def test_a_stored_digit_takes_thirty_bytes() -> None:
    page = PageReading((number("1234567890" * 100, 1000, 1000),))
    assert len(json.dumps(page.noted(), separators=(",", ":"))) <= 35 * 1000
