"""Pages of drawn digits, read by comparison with the same drawings: what is tested is where the reader looks."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from shared.errors import TooManyDigits
from shared.numbers import PageReading
from tests.drawings import STROKES, Grey, drawn
from worker.image.normalise import normalise
from worker.inference.mlp import Reading
from worker.inference.read_pages import MOST_DIGITS, _quarters, read_pages

WIDTH, HEIGHT = 900, 600
PAPER, INK = 230, 40


def templates() -> dict[int, np.ndarray]:
    pixels = {number: normalise((255 * (1 - drawn(number))).astype(np.uint8)).pixels for number in STROKES}
    return {number: one.ravel() / np.linalg.norm(one) for number, one in pixels.items()}


TEMPLATES = templates()


def read(pixels: np.ndarray) -> Reading:
    """The nearest drawing is the digit; what is like none is no digit."""
    probabilities = np.full((len(pixels), 10), 0.0001, np.float32)
    digitness = np.zeros(len(pixels), np.float32)
    for at, one in enumerate(pixels):
        flat = one.ravel() / max(float(np.linalg.norm(one)), 1e-6)
        likeness = {number: float(flat @ template) for number, template in TEMPLATES.items()}
        best = max(likeness, key=likeness.__getitem__)
        probabilities[at, best] = 0.9991
        digitness[at] = 1 / (1 + np.exp(-30 * (likeness[best] - 0.7)))
    return Reading(probabilities, digitness)


def written(
    *rows: str, size: float = 60, step: float = 60, left: int = 60, top: int = 50, leading: float = 110
) -> np.ndarray:
    """Ink in [0, 1] of rows of digits; a space is a step without one."""
    ink = np.zeros((HEIGHT, WIDTH))
    for row, text in enumerate(rows):
        for column, digit in enumerate(text):
            if digit != " ":
                at = (left + column * step, top + row * leading)
                ink = np.maximum(ink, drawn(int(digit), WIDTH, HEIGHT, size, at))
    return ink


def on_paper(ink: np.ndarray, paper: np.ndarray | int = PAPER) -> Grey:
    noise = np.random.default_rng(1).normal(0, 2, ink.shape)
    return (paper + (INK - paper) * ink + noise).clip(0, 255).astype(np.uint8)


def reading(grey: Grey) -> PageReading:
    [found] = read_pages([grey], read, {})
    assert isinstance(found, PageReading)
    return found


def texts(grey: Grey) -> list[str]:
    return [number.text for number in reading(grey).numbers if number.text]


def test_rows_are_read_from_top_to_bottom() -> None:
    assert texts(on_paper(written("4578", "1847", "751"))) == ["4578", "1847", "751"]


def test_boxes_are_around_the_digits() -> None:
    [number] = reading(on_paper(written("47"))).numbers
    four, seven = (digit.box for digit in number.digits)
    assert four == pytest.approx((60, 47, 57, 66), abs=5)
    assert seven == pytest.approx((123, 47, 54, 66), abs=5)


def test_bright_ink_on_a_dark_board_is_read() -> None:
    assert texts(255 - on_paper(written("4578"))) == ["4578"]


def test_a_wide_gap_starts_a_new_number() -> None:
    assert texts(on_paper(written("457   81"))) == ["457", "81"]


def test_an_exponent_is_on_the_line_of_its_base() -> None:
    ink = np.maximum(written("57", "84"), drawn(4, WIDTH, HEIGHT, 30, (190, 25)))
    assert texts(on_paper(ink)) == ["574", "84"]


def test_a_dash_fits_in_a_number() -> None:
    ink = written("45 78")
    ink[78:84, 190:220] = 1
    assert texts(on_paper(ink)) == ["4578"]


def test_a_dash_is_no_part_of_a_gap() -> None:
    ink = written("45  78")
    assert texts(on_paper(ink)) == ["45", "78"]
    ink[78:84, 215:255] = 1
    assert texts(on_paper(ink)) == ["4578"]


def test_a_comma_is_no_1() -> None:
    comma = drawn(1, WIDTH, HEIGHT, 26, (172, 100))
    assert texts(on_paper(np.maximum(written("45 78"), comma))) == ["4578"]


def test_a_small_1_beside_the_head_of_a_digit_is_an_exponent() -> None:
    exponent = drawn(1, WIDTH, HEIGHT, 26, (172, 40))
    assert texts(on_paper(np.maximum(written("45 78"), exponent))) == ["45178"]


def test_a_short_row_is_no_exponent_of_the_row_below() -> None:
    short = written("57", left=110, top=30, size=55)
    ink = np.maximum(short, written("7845", left=60, top=105, size=66, step=66))
    assert texts(on_paper(ink)) == ["57", "7845"]


def test_touching_digits_are_cut() -> None:
    ink = written("58", step=46, size=60)
    assert texts(on_paper(ink)) == ["58"]


@pytest.mark.parametrize("every", [110, 55], ids=["lines", "lines through the digits"])
def test_ruled_paper_is_removed(every: int) -> None:
    paper = np.full((HEIGHT, WIDTH), PAPER)
    for row in range(30, HEIGHT, every):
        paper[row : row + 3] = 150
    assert texts(on_paper(written("4578", "1847"), paper)) == ["4578", "1847"]


def test_squared_paper_is_removed() -> None:
    paper = np.full((HEIGHT, WIDTH), PAPER)
    for at in range(10, WIDTH, 47):
        paper[at : at + 2], paper[:, at : at + 2] = 160, 160
    assert texts(on_paper(written("4578", "1847"), paper)) == ["4578", "1847"]


@pytest.mark.parametrize("degrees", [-25, 12, 28])
def test_leaning_lines_are_turned_back(degrees: int) -> None:
    grey = Image.fromarray(on_paper(written("45781", "18475", left=300, top=200, leading=140)))
    assert texts(np.asarray(grey.rotate(degrees, Image.Resampling.BICUBIC, fillcolor=PAPER))) == ["45781", "18475"]


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_page_on_its_side_or_head_is_turned_and_its_boxes_are_those_of_the_upload(quarters: int) -> None:
    upright = on_paper(written("45784", "74575"))
    found = reading(np.ascontiguousarray(np.rot90(upright, quarters)))
    assert [number.text for number in found.numbers] == ["45784", "74575"]
    assert found.rotated == 90 * quarters
    lying = np.zeros((HEIGHT, WIDTH), np.uint8)
    left, top, width, height = reading(upright).digits[0].box
    lying[top : top + height, left : left + width] = 1
    rows, columns = np.nonzero(np.rot90(lying, quarters))
    box = columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1
    assert found.digits[0].box == pytest.approx(box, abs=4)


def test_letters_are_refused() -> None:
    grey = Image.fromarray(on_paper(written("")))
    draw = ImageDraw.Draw(grey)
    draw.text((60, 80), "MAX & WAXX", fill=INK, font_size=70)
    assert texts(np.asarray(grey)) == []


def test_a_digit_in_a_word_of_letters_is_refused() -> None:
    grey = Image.fromarray(on_paper(written("   7   75", step=60)))
    ImageDraw.Draw(grey).text((60, 33), "WAX", fill=INK, font_size=80)
    ImageDraw.Draw(grey).text((305, 33), "W", fill=INK, font_size=80)
    assert texts(np.asarray(grey)) == ["75"]


def test_marks_that_are_no_digits_are_not_listed() -> None:
    grey = Image.fromarray(on_paper(written("4578")))
    ImageDraw.Draw(grey).text((60, 200), "MAX & WAX", fill=INK, font_size=80)
    assert [digit.digit for digit in reading(np.asarray(grey)).digits] == [4, 5, 7, 8]


def test_boxes_and_lines_of_a_form_are_refused() -> None:
    ink = written("4578")
    for left in range(60, 500, 60):
        ink[300:303, left : left + 40] = ink[340:343, left : left + 40] = 1
        ink[300:343, left : left + 3] = ink[300:343, left + 37 : left + 40] = 1
    ink[450:453, 40:860] = ink[520:523, 40:860] = 1
    for left in range(80, 860, 120):
        ink[450:523, left : left + 3] = 1
    assert texts(on_paper(ink)) == ["4578"]


def test_a_1_alone_on_its_row_is_read_among_more_rows_of_other_numbers() -> None:
    assert texts(on_paper(written("45", "7", "1", "8"))) == ["45", "7", "1", "8"]


def test_as_many_bars_alone_on_their_rows_as_numbers_are_lines() -> None:
    assert texts(on_paper(written("45", "1", "7", "1"))) == ["45", "7"]


def test_texture_and_empty_paper_give_nothing() -> None:
    rng = np.random.default_rng(3)
    grain = np.asarray(Image.fromarray(rng.integers(0, 256, (75, 112), np.uint8)).resize((WIDTH, HEIGHT)))
    assert texts(grain) == []
    assert texts(on_paper(written(""))) == []
    assert reading(np.full((HEIGHT, WIDTH), PAPER, np.uint8)).numbers == ()


@pytest.mark.parametrize("shape", [(1, 1), (1, 2400), (2400, 2)])
def test_a_picture_lower_or_narrower_than_any_digit_has_none(shape: tuple[int, int]) -> None:
    assert reading(np.zeros(shape, np.uint8)) == PageReading(())


def test_all_pages_are_read_in_one_call() -> None:
    calls = []

    def counted(pixels: np.ndarray) -> Reading:
        calls.append(len(pixels))
        return read(pixels)

    found = read_pages([on_paper(written("4578")), on_paper(written("", "75"))], counted, {})
    assert [[number.text for number in page.numbers] for page in found if isinstance(page, PageReading)] == [
        ["4578"],
        ["75"],
    ]
    assert len(calls) == 1


def test_thresholds_decide() -> None:
    grey = on_paper(written("4578"))
    for thresholds, decision in (({"page_accept": 0.5}, "accept"), ({"page_accept": 1.0}, "review")):
        [found] = read_pages([grey], read, thresholds)
        assert isinstance(found, PageReading)
        assert {digit.decision for digit in found.digits} == {decision}


def test_more_digits_than_are_read_are_an_error() -> None:
    [one] = [drawn(4, 40, 40, 24, (8, 8))]
    ink = np.tile(one, (26, 39))
    assert ink.shape[0] // 40 * (ink.shape[1] // 40) > MOST_DIGITS
    [found, other] = read_pages([on_paper(ink), on_paper(written("75"))], read, {})
    assert isinstance(found, TooManyDigits)
    assert found.code == "too_many_digits"
    assert isinstance(other, PageReading)


@pytest.mark.parametrize(
    ("chances", "turn"),
    [
        ([[0.01, 0.2, 0.999, 0.01]] * 2, 2),
        ([[0.99, 0.2, 0.999, 0.01]] * 2, 0),
        ([[0.97, 0.2, 0.9999, 0.01]] * 3, 2),
        ([[0.999, 0.2, 0.9999999, 0.01]] * 9, 0),
        ([[0.999, 0.2, 0.999, 0.01]] * 9 + [[0.0000001, 0.2, 0.6, 0.01]], 0),
        ([[0.01, 0.6, 0.01, 0.01]] * 9, 0),
    ],
    ids=["digits one way only", "balanced", "quite digits", "as good as each other", "one blot", "no digits anyhow"],
)
def test_a_page_is_turned_if_that_makes_digits_of_its_marks(chances: list[list[float]], turn: int) -> None:
    class Marks:
        @staticmethod
        def sample(most: int) -> np.ndarray:
            return np.zeros((len(chances), 28, 28), np.float32)

    asking = _quarters(Marks)  # type: ignore[arg-type]
    count = len(next(asking))
    sure = np.array(chances, np.float32).T.ravel()
    assert count == len(sure)
    with pytest.raises(StopIteration) as end:
        asking.send(Reading(np.full((count, 10), 1, np.float32), sure))
    assert end.value.value == turn


def test_digits_in_a_row_of_boxes_are_one_number() -> None:
    ink = written("4578571", step=70, left=70, top=60)
    ink[40:43, 60:551] = ink[130:133, 60:551] = 1
    for left in range(60, 560, 70):
        ink[40:133, left - 1 : left + 2] = 1
    found = reading(on_paper(ink))
    assert [number.text for number in found.numbers] == ["4578571"]
    assert found.grid is None


def test_digits_in_a_column_of_boxes_are_read_line_by_line() -> None:
    ink = written("45", "78", "57", "84", left=80, top=60)
    ink[40:501, 50:53] = ink[40:501, 250:253] = 1
    for top in range(40, 500, 110):
        ink[top : top + 3, 50:253] = 1
    found = reading(on_paper(ink))
    assert [number.text for number in found.numbers] == ["45", "78", "57", "84"]
    assert found.grid is None
