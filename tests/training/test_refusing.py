"""Pictures without exactly one digit are never accepted: several digits, lines of a form, slashes, clouds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from shared.prediction import Outcome
from tests.drawings import DIGITS, Grey, as_in_mnist, black_on_white, drawn, encoded, on
from tests.fakes import Sure
from tests.tiny import nondigits, reader, stripes
from worker.image.multiple_digits import is_chain, is_stack
from worker.image.normalise import normalise, normalise_uneven
from worker.inference.classify import Classifier
from worker.inference.mlp import Reading, configure_threads
from worker.inference.straight_strokes import are_straight_strokes
from worker.training.artefact import choose
from worker.training.artefact.export import export
from worker.training.artefact.heldout import HeldOut

WAYS = {"row": (1, 0), "column": (0, 1), "diagonal": (1, 1), "other diagonal": (-1, 1)}


def placed(numbers: list[int], way: str, step: float, size: int = 60) -> Grey:
    """Digits in a row, a column or a diagonal, their corners that many heights apart."""
    right, down = WAYS[way]
    far = round(step * size * (len(numbers) - 1))
    width, height = 120 + size + abs(right) * far, 120 + size + down * far
    ink = np.zeros((height, width))
    for at, number in enumerate(numbers):
        x = 60 + round(step * size * at) * right + (far if right < 0 else 0)
        ink = np.maximum(ink, drawn(number, width, height, size, (x, 60 + round(step * size * at) * down)))
    return ink


def warned(ink: Grey) -> tuple[str, ...]:
    return normalise(black_on_white(ink)).warnings


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("step", [1.5, 2.5, 5])
@pytest.mark.parametrize("numbers", [[4, 7], [1, 8], [5, 4, 7, 8, 5]])
def test_digits_at_any_distance_are_several(way: str, step: float, numbers: list[int]) -> None:
    assert "several_digits" in warned(placed(numbers, way, step))


def test_a_long_row_of_digits_far_apart_is_several() -> None:
    assert "several_digits" in warned(placed([4, 7, 8, 5, 4, 8, 7, 5, 4], "row", 5, 40))


@pytest.mark.parametrize("numbers", [[8, 5], [8, 8, 8, 5]])
def test_a_column_that_nearly_touches_is_several(numbers: list[int]) -> None:
    assert "several_digits" in warned(placed(numbers, "column", 1.16, 90))


def test_a_thin_1_beside_a_thick_8_is_a_second_digit() -> None:
    ink = np.maximum(drawn(8, 300, 200, 100, (30, 40), pen=0.16), drawn(1, 300, 200, 90, (200, 40), pen=0.05))
    assert "several_digits" in warned(ink)


@pytest.mark.parametrize("number", [4, 5, 7, 8])  # beside a 1 a line may be another one
@pytest.mark.parametrize("box", [(260, 150, 274, 164), (150, 180, 250, 186), (280, 60, 282, 130)])
def test_a_speck_a_dash_or_what_is_left_of_a_line_is_no_second_digit(
    number: int, box: tuple[int, int, int, int]
) -> None:
    ink = drawn(number, 300, 200, 100, (30, 30), pen=0.16)
    left, top, right, bottom = box
    ink[top:bottom, left:right] = 1
    assert "several_digits" not in warned(ink)


@pytest.mark.parametrize("box", [(260, 150, 274, 164), (200, 180, 290, 190)], ids=["speck", "dash"])
def test_a_speck_or_a_dash_beside_a_thin_digit_is_no_second_one(box: tuple[int, int, int, int]) -> None:
    ink = drawn(4, 300, 240, 100, (30, 30), pen=0.04)
    left, top, right, bottom = box
    ink[top:bottom, left:right] = 1
    assert "several_digits" not in warned(ink)


def test_three_rings_that_touch_are_a_column() -> None:
    rings = Image.new("1", (60, 180))
    for top in (0, 58, 116):
        ImageDraw.Draw(rings).ellipse((5, top, 55, top + 62), outline=1, width=8)
    assert is_chain(np.asarray(rings))


def test_a_narrow_8_and_a_broken_digit_are_no_column() -> None:
    eight = np.asarray(Image.fromarray(drawn(8, pen=0.1) > 0.5).resize((110, 200))).astype(bool)
    broken = drawn(8) > 0.5
    broken[98:104] = False
    one = drawn(1) > 0.5
    one[98:104] = False
    for mask in (eight, broken, one):
        assert not is_chain(mask)
        assert not is_stack(mask)


def test_two_wide_digits_one_above_the_other_are_not_clearly_one() -> None:
    ink = placed([8, 4], "column", 1.2, 80)
    wide = np.asarray(Image.fromarray(ink.astype(np.float32)).resize((2 * ink.shape[1], ink.shape[0])))
    assert not normalise(black_on_white(wide)).clear
    assert normalise(black_on_white(drawn(8))).clear


def cell(sides: str, wide: int = 5, inset: int = 0, lean: int = 0, until: float = 1.0, side: int = 64) -> Grey:
    """The lines of an empty cell: ink along the sides l, t, r, b, a bit within the picture, aslant, or fading."""
    ink = Image.new("L", (side, side))
    for name in sides:
        at = inset + wide / 2 if name in "lt" else side - inset - wide / 2
        ends = (at, -2), (at + lean, until * (side + 2))
        ImageDraw.Draw(ink).line([end if name in "lr" else end[::-1] for end in ends], 255, wide)
    return np.asarray(ink.filter(ImageFilter.GaussianBlur(1)), np.float64) / 255


@pytest.mark.parametrize("sides", ["l", "t", "r", "b", "lr", "tb", "lt", "tr", "br", "lb", "ltr", "ltrb"])
@pytest.mark.parametrize(
    "line", [{}, {"wide": 9}, {"wide": 3, "inset": 6}, {"lean": 4}, {"until": 0.9}, {"until": 0.5, "wide": 4}]
)
def test_the_lines_of_an_empty_cell_are_no_ink(sides: str, line: dict[str, Any]) -> None:
    grey = on(210, cell(sides, **line), noise=3)
    assert normalise(grey).warnings == ("no_ink",)
    assert set(normalise_uneven(grey).warnings) & {"no_ink", "low_contrast"}


@pytest.mark.parametrize("sides", ["l", "t"])
def test_a_blurred_line_may_be_thick(sides: str) -> None:
    assert normalise(on(210, cell(sides, wide=17), noise=3)).warnings == ("no_ink",)


@DIGITS
@pytest.mark.parametrize("sides", ["l", "tr", "lb"])
def test_a_digit_in_a_cell_is_read_without_its_lines(number: int, sides: str) -> None:
    ink = drawn(number, 64, 64, 30, (17, 17), pen=0.14)
    both = normalise(on(210, np.maximum(ink, cell(sides, wide=4)), noise=2)).pixels
    alone = normalise(on(210, ink, noise=2)).pixels
    assert float((both * alone).sum()) >= 0.95 * float(np.linalg.norm(both) * np.linalg.norm(alone))


@pytest.mark.parametrize("pen", [0.1, 0.16])
def test_a_digit_that_fills_its_picture_is_no_cell(pen: float) -> None:
    ring = Image.new("L", (80, 80))
    ImageDraw.Draw(ring).ellipse((1, 1, 78, 78), outline=255, width=round(80 * pen))
    seven = drawn(7, pen=pen)
    rows, columns = np.flatnonzero(seven.max(axis=1) > 0.5), np.flatnonzero(seven.max(axis=0) > 0.5)
    tight = seven[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    for ink in (np.asarray(ring) / 255, tight):
        assert "no_ink" not in warned(ink)


def test_a_sheet_of_digits_in_the_shade_is_not_said_to_be_blank() -> None:
    ink = np.zeros((300, 300))
    for at in range(0, 300, 50):
        ink[at : at + 4] = ink[:, at : at + 4] = 0.4
    for row in range(6):
        for column in range(6):
            number = [4, 5, 7, 8][(row + column) % 4]
            ink = np.maximum(ink, drawn(number, 300, 300, 26, (14 + 50 * column, 14 + 50 * row), pen=0.14))
    y, x = np.mgrid[-1:1:300j, -1:1:300j]
    grey = on(150 + 70 * x * y, ink, depth=0.6, noise=6)
    found = read(grey, Sure(0.99))
    assert (found.decision, found.reason in ("several_digits", "not_a_digit")) == ("reject", True)


def read(grey: Grey, model: Any) -> Outcome:
    [found] = Classifier(model, 10**6)([encoded(grey)]).results
    assert isinstance(found, Outcome)
    return found


def test_a_picture_unlike_mnist_needs_more_digitness() -> None:
    model = Sure(0.99, 0.96, digit=0.9, picture=0.98)
    assert read(as_in_mnist(7), model).decision == "accept"
    assert read(black_on_white(drawn(7)), model).reason == "not_a_digit"
    assert read(black_on_white(drawn(7)), Sure(0.99, 0.99, digit=0.9, picture=0.98)).decision == "accept"


@pytest.mark.parametrize(
    ("ink", "confidence", "decision"),
    [
        (drawn(4, 260)[:, 70:], 0.999, "review"),
        (drawn(4)[50:], 0.95, "review"),
        (drawn(4)[50:], 0.98, "accept"),
        (drawn(4)[50:-20], 0.95, "accept"),
        (drawn(4)[40:-40, 35:-35], 0.95, "accept"),
    ],
    ids=["much is cut off", "something may be cut off", "it is sure enough", "hardly any room", "cropped tightly"],
)
def test_what_runs_off_the_picture_beside_room_is_not_accepted(ink: Grey, confidence: float, decision: str) -> None:
    assert read(black_on_white(ink), Sure(confidence)).decision == decision


def test_faint_ink_has_to_be_plain_or_somebody_has_a_look() -> None:
    faint = on(230, drawn(7), depth=0.15, noise=2)
    for digitness, decision in ((0.99, "review"), (0.999, "accept")):
        assert read(faint, Sure(0.99, digitness, digit=0.9, picture=0.98, unclear=0.995)).decision == decision


def test_a_second_look_at_clouds_is_not_clear_and_one_at_a_shaded_digit_is() -> None:
    y, x = np.mgrid[-1:1:200j, -1:1:200j]
    shaded = on((150 + 80 * x) * (1 - 0.5 / (1 + np.exp(-20 * (x + y)))), drawn(4), noise=2)
    clouds = 128 + 60 * np.sin(7 * x + 2 * np.sin(5 * y)) * np.sin(6 * y + np.sin(4 * x))
    assert normalise_uneven(shaded).clear
    assert not normalise_uneven(np.rint(clouds).astype(np.uint8)).clear


class One(Sure):
    """A model that sees a 1 in everything."""

    def read(self, pixels: Any) -> Reading:
        return Reading(np.roll(self.predict(pixels), 4, axis=1), np.ones(len(pixels), np.float32))


def stroke(lean: float, bend: float = 0, swell: float = 0) -> Grey:
    """A stroke that leans by that many columns for each row, bent or thicker in the middle by so much of its length."""
    ink = Image.new("L", (400, 400))
    for step in np.linspace(-1, 1, 200):
        x, radius = 200 - lean * 120 * step + bend * 240 * (1 - step**2), 14 + swell * 240 * (1 - abs(step))
        ImageDraw.Draw(ink).rectangle((x - radius, 200 + 120 * step - 2, x + radius, 200 + 120 * step + 2), 255)
    return np.asarray(ink.reduce(2)) / 255


@pytest.mark.parametrize(
    ("ink", "decision"),
    [
        (stroke(0.35), "review"),
        (stroke(-0.12), "review"),
        (stroke(0.0), "accept"),
        (stroke(0.1), "accept"),
        (stroke(0.35, bend=0.08), "accept"),
        (stroke(0.35, swell=0.06), "accept"),
    ],
    ids=["slash", "backslash", "upright", "nearly upright", "bent", "swelling"],
)
def test_a_stroke_as_straight_as_print_may_be_a_slash(ink: Grey, decision: str) -> None:
    assert read(black_on_white(ink), One(0.99)).decision == decision


def test_an_upright_bar_is_doubted_only_where_there_are_signs_of_a_form() -> None:
    pixels = normalise(black_on_white(stroke(0.0))).pixels[None]
    assert not are_straight_strokes(pixels, np.array([False]))[0]
    assert are_straight_strokes(pixels, np.array([True]))[0]


def test_thresholds_are_chosen_anew_and_nothing_else_of_the_model_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure_threads()
    mnist = stripes()
    held_out = HeldOut(mnist.train_images[:20], mnist.train_labels[:20], mnist.train_images[:20], nondigits(30))
    model = export(reader(mnist, 11), mnist, tmp_path / "model", preprocessing="old", held_out=held_out)
    before = {path: path.read_bytes() for path in model.rglob("*") if path.is_file() and path.name != "card.json"}
    monkeypatch.setattr(choose, "load_mnist", lambda _: mnist)
    monkeypatch.setattr(HeldOut, "of", lambda *_: held_out)
    found = choose.rechosen(model, tmp_path)
    assert found.keys() == {"accept", "reject", "digit", "picture", "unclear"}
    assert found["digit"] <= found["picture"] <= found["unclear"]
    assert before == {path: path.read_bytes() for path in before}
