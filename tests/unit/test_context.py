"""Digits are more or less likely by their neighbours."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from worker.page.context import FEATURES, confidences, features
from worker.page.context_weights import WEIGHTS
from worker.page.layout import Layout, lay_out
from worker.page.surroundings import Seen


def page(*places: int) -> Layout:
    """A page with a row of the same digit at these columns."""
    image = Image.new("L", (900, 200), 230)
    for left in places:
        ImageDraw.Draw(image).text((left, 60), "3", fill=40, font_size=80)
    return lay_out(np.asarray(image))


def seen(layout: Layout, *digitness: float) -> list[list[Seen]]:
    """All marks of the only row as 3s with this digitness."""
    [row] = layout.rows
    whole = [one for one in row.candidates if one.stop == one.start + 1 and one.shared is None]
    return [[Seen(one, 3, chance, 0.9999) for one, chance in zip(whole, digitness, strict=True)]]


def measured(layout: Layout, rows: list[list[Seen]], name: str) -> list[float]:
    return list(features(layout, rows)[:, FEATURES.index(name)])


def test_every_feature_has_a_weight() -> None:
    assert sorted(WEIGHTS) == sorted(FEATURES)


def test_a_digit_is_likelier_among_digits_than_among_letters() -> None:
    layout = page(100, 160, 220, 280)
    [among_digits] = confidences(layout, seen(layout, 0.999, 0.999, 0.999, 0.999))
    [among_letters] = confidences(layout, seen(layout, 0.999, 0.01, 0.01, 0.01))
    assert among_letters[0] < 0.6 < 0.95 < among_digits[0]


def test_two_sure_digits_with_nothing_else_on_the_page_are_as_likely_as_the_model_says() -> None:
    layout = page(100, 400)
    assert confidences(layout, seen(layout, 0.999, 0.999)) == [pytest.approx([0.999 * 0.9999] * 2)]
    assert max(confidences(layout, seen(layout, 0.999, 0.9))[0]) < 0.99


def test_a_round_0_beside_clear_digits_alone_is_as_likely_as_the_model_says() -> None:
    layout = page(100, 400, 700)
    [row] = seen(layout, 0.999, 0.96, 0.96)
    row[2] = row[2]._replace(digit=0, plain=True)
    assert confidences(layout, [row]) == [pytest.approx([0.999 * 0.9999, 0.96 * 0.9999, 0.96 * 0.9999])]


def test_what_is_no_digit_on_the_page_makes_round_0s_less_likely() -> None:
    layout = page(100, 400, 700, 800)
    [row] = seen(layout, 0.999, 0.96, 0.96, 0.01)
    row[1:3] = [one._replace(digit=0, plain=True) for one in row[1:3]]
    assert max(confidences(layout, [row])[0][1:3]) < 0.5


def test_a_digit_is_no_neighbour_of_itself() -> None:
    layout = page(100)
    assert measured(layout, seen(layout, 0.999), "page sure") == [0]
    assert measured(layout, seen(layout, 0.999), "page count") == [0]


def test_a_gap_ends_a_word() -> None:
    layout = page(100, 160, 400)
    rows = seen(layout, 0.999, 0.999, 0.999)
    assert measured(layout, rows, "word count") == pytest.approx([np.log(2) / 3, np.log(2) / 3, 0])
    assert measured(layout, rows, "line count") == pytest.approx([np.log(3) / 3] * 3)


def test_a_page_without_digits_has_nothing_to_measure() -> None:
    layout = page(100)
    assert features(layout, [[]]).shape == (0, len(FEATURES))
    assert confidences(layout, [[]]) == [[]]
