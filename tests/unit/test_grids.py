"""Ruled tables on a page: where their lines cross, and which digit stands in which cell."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest

from tests.drawings import drawn
from worker.page.grid.cells import Digit
from worker.page.grid.find import find_crossings, find_grid

Page = np.ndarray
CELL, MARGIN = 60, 50
PUZZLE = [
    "5..4.7..1",
    ".8..1.5..",
    "..7..8.4.",
    "4...8...7",
    ".7.1.5.8.",
    "1...7...5",
    ".5.8..1..",
    "..1.5..7.",
    "8..7.1..4",
]


def table(rows: list[str], wide: int = CELL, high: int = CELL, pale: float = 0.4) -> tuple[Page, Page]:
    """A page with a ruled table of single digits, `.` for none; and where its lines cross."""
    xs = MARGIN + wide * np.arange(len(rows[0]) + 1)
    ys = MARGIN + high * np.arange(len(rows) + 1)
    ink = np.zeros((ys[-1] + MARGIN, xs[-1] + MARGIN))
    for y in ys:
        ink[y - 1 : y + 2, xs[0] : xs[-1] + 1] = pale
    for x in xs:
        ink[ys[0] : ys[-1] + 1, x - 1 : x + 2] = pale
    for row, text in enumerate(rows):
        for column, digit in enumerate(text):
            if digit != ".":
                at = (wide - 32) / 2, (high - 32) / 2
                part = ink[ys[row] : ys[row + 1], xs[column] : xs[column + 1]]
                np.maximum(part, drawn(int(digit), wide, high, size=32, at=at), out=part)
    return paper(ink), np.stack(np.meshgrid(xs, ys), axis=-1).astype(np.float64)


def paper(ink: Page) -> Page:
    """Ink in [0, 1] on white paper with some grain."""
    levels = 235 - 200 * ink + np.random.default_rng(0).normal(0, 2, ink.shape)
    return np.rint(levels).clip(0, 255).astype(np.uint8)


def tilted(page: Page, places: Page) -> tuple[Page, Page]:
    """The page photographed from the lower left."""
    height, width = page.shape
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    moved = corners + np.array([[60, 30], [-20, 70], [0, -10], [10, -40]], np.float32)
    view = cv2.getPerspectiveTransform(corners, moved)
    seen = cv2.warpPerspective(page, view, (width, height), borderMode=cv2.BORDER_REPLICATE)
    return seen, cv2.perspectiveTransform(places, view.astype(np.float64))


def curved(page: Page, places: Page) -> tuple[Page, Page]:
    """The page bent like an open book: its middle hangs lower by a third of a cell."""
    x, y = np.meshgrid(np.arange(page.shape[1], dtype=np.float32), np.arange(page.shape[0], dtype=np.float32))
    hang = (CELL / 3 * np.sin(np.pi * x / page.shape[1])).astype(np.float32)
    moved = places.copy()
    moved[..., 1] += CELL / 3 * np.sin(np.pi * places[..., 0] / page.shape[1])
    return cv2.remap(page, x, y - hang, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), moved


def shaded(page: Page, places: Page) -> tuple[Page, Page]:
    """The page half in the shade."""
    light = 0.45 + 0.55 / (1 + np.exp((page.shape[1] / 2 - np.arange(page.shape[1])) / 15))
    return (page * light).astype(np.uint8), places


def as_it_is(page: Page, places: Page) -> tuple[Page, Page]:
    return page, places


def assert_at(found: Page | None, places: Page) -> None:
    """Every crossing within a tenth of a cell."""
    assert found is not None
    assert found.shape == places.shape
    assert np.abs(found - places).max() <= CELL / 10


@pytest.mark.parametrize("seen", [as_it_is, tilted, curved, shaded])
def test_lines_are_followed(seen):
    page, places = seen(*table(PUZZLE))
    assert_at(find_crossings(page), places)


def test_a_large_photo_is_searched_small_and_has_its_own_coordinates():
    page, places = tilted(*table(PUZZLE))
    large = cv2.resize(page, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
    found = find_crossings(large)
    assert found is not None
    assert_at(found / 3, places)


@pytest.mark.parametrize("shape", [(4, 3), (2, 2), (3, 8), (12, 4)])
def test_tables_of_other_shapes(shape):
    rows, columns = shape
    page, places = table(["." * columns] * rows, wide=90, high=50)
    assert_at(find_crossings(page), places)


def test_a_table_may_be_brighter_than_its_paper():
    page, places = table(["57.", "81.", "4.7", ".75"])
    grid = find_grid(255 - page)
    assert grid is not None
    assert_at(grid.crossings, places)


def test_lines_may_have_gaps():
    page, places = table(["5.", ".8", "1.", "7.", ".4", ".."], wide=110)
    for left, right in itertools.pairwise(places[0, :, 0].astype(int)):
        page[:, left + 30 : left + 50] = 235
        page[:: 2 * CELL, right - 30 : right - 20] = 235
    for y in places[:-1, 0, 1].astype(int):
        page[y + 20 : y + 35, :60] = page[y + 20 : y + 35, -60:] = 235
    assert_at(find_crossings(page), places)


def test_a_pale_table_may_be_a_part_of_the_page():
    page, places = table(["57.", "81.", "4.7", ".75"], pale=0.1)
    beside = np.full((page.shape[0] + 60, page.shape[1] + 40), 235, np.uint8)
    beside[20 : 20 + page.shape[0], 30 : 30 + page.shape[1]] = page
    assert_at(find_crossings(beside), places + np.array([30, 20]))


def test_two_lines_may_be_near_to_each_other():
    page, places = table(["..", ".."], wide=200, high=90)
    x, first, last = places[[0, 0, -1], [1, 1, 1], [0, 1, 1]].astype(int)
    page[first : last + 1, x + 7] = 60
    grid = find_grid(page)
    assert grid is not None
    assert [len(row) for row in grid.cells] == [3, 3]


def test_missing_pieces_of_lines_are_bridged():
    page, places = table(PUZZLE)
    for column, row in ((2, 3), (6, 1), (4, 7)):
        x, y = places[row, column].astype(int)
        page[y - 4 : y + 5, x + 6 : x + CELL - 6] = 235
    page[int(places[5, 0, 1]) - 4 : int(places[5, 0, 1]) + 5, int(places[5, 3, 0]) + 6 : int(places[5, 6, 0]) - 6] = 235
    assert_at(find_crossings(page), places)


def test_a_whole_line_of_a_sudoku_may_be_missing():
    page, places = table(PUZZLE)
    y = int(places[4, 0, 1])
    for first, last in zip(places[4, :-1, 0].astype(int), places[4, 1:, 0].astype(int), strict=True):
        page[y - 4 : y + 5, first + 3 : last - 2] = 235
    assert_at(find_crossings(page), places)


def squared_paper() -> Page:
    """Squares, with digits written across their lines."""
    ink = np.zeros((600, 800))
    ink[::24], ink[:, ::24] = 0.25, 0.25
    for at, number in enumerate((4, 7, 5, 8, 1, 7, 5, 4)):
        part = ink[100 + 220 * (at // 4) :, 60 + 170 * (at % 4) :][:160, :160]
        np.maximum(part, drawn(number, 160, 160, size=130, at=(15, 15)), out=part)
    return paper(ink)


def framed_squares() -> Page:
    """A frame full of squares, with digits written across them."""
    page, places = table(["." * 14] * 7, wide=30, high=30)
    for number, column in ((8, 0), (5, 7)):
        x, y = places[0, column].astype(int)
        digit = paper(drawn(number, 210, 210, size=180, at=(20, 15)))
        page[y : y + 210, x : x + 210] = np.minimum(page[y : y + 210, x : x + 210], digit)
    return page


def open_squares() -> Page:
    """Lines that cross and go on: the outer ones bound nothing."""
    ink = np.zeros((400, 400))
    for at in range(80, 321, 80):
        ink[at : at + 3, 30:370] = ink[30:370, at : at + 3] = 0.5
    return paper(ink)


def lined_paper() -> Page:
    ink = np.zeros((600, 800))
    ink[40::40] = 0.3
    ink[:, 90:92] = 0.3
    return paper(ink)


def frame() -> Page:
    ink = np.zeros((400, 500))
    cv2.rectangle(ink, (40, 40), (460, 360), 0.8, 3)
    return paper(ink)


def chessboard() -> Page:
    return paper(np.kron(np.indices((8, 8)).sum(axis=0) % 2, np.ones((50, 50))))


def grain() -> Page:
    noise = np.random.default_rng(1).normal(0, 1, (400, 400))
    return np.rint(128 + 300 * cv2.GaussianBlur(noise, (0, 0), 3)).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("page", [squared_paper, framed_squares, open_squares, lined_paper, frame, chessboard, grain])
def test_no_table_where_there_is_none(page):
    assert find_grid(page()) is None


def test_a_blank_page_has_no_table():
    assert find_grid(np.full((300, 400), 255, np.uint8)) is None


def digit_of(mark: Page) -> Digit | None:
    """The digit in the middle cell of an empty sudoku to which this ink was added."""
    page, places = table(["." * 9] * 9)
    x, y = places[4, 4].astype(int)
    page[y : y + CELL, x : x + CELL] = np.minimum(page[y : y + CELL, x : x + CELL], paper(mark))
    grid = find_grid(page)
    assert grid is not None
    return grid.cells[4][4].digit


def dot() -> Page:
    mark = np.zeros((CELL, CELL))
    cv2.circle(mark, (30, 30), 4, 0.9, -1)
    return mark


def shadow() -> Page:
    return np.tile(np.linspace(0, 0.3, CELL), (CELL, 1))


def second_line() -> Page:
    mark = np.zeros((CELL, CELL))
    mark[8:52, 13:15] = 0.5
    return mark


@pytest.mark.parametrize("mark", [dot, shadow, second_line])
def test_dots_shadows_and_remains_of_lines_are_no_digits(mark):
    assert digit_of(mark()) is None


def test_pale_digits_are_digits():
    assert digit_of(0.25 * drawn(5, CELL, CELL, size=32, at=(14, 14))) is not None


def test_the_ink_of_a_digit_is_without_the_lines_of_its_cell():
    digit = digit_of(drawn(8, CELL, CELL, size=32, at=(14, 14)))
    assert digit is not None
    assert digit.ink[digit.ink.shape[0] // 2, digit.ink.shape[1] // 2] > 0.5
    assert not any(side.any() for side in (digit.ink[0], digit.ink[-1], digit.ink[:, 0], digit.ink[:, -1]))
