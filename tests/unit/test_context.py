"""Digits are more or less likely by their neighbours."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from worker.page import context, surroundings
from worker.page.context import FEATURES, LOOKS, MAYBE, SCOPES, Mark, confidences, features
from worker.page.context_weights import WEIGHTS
from worker.page.layout import Layout, lay_out
from worker.page.surroundings import Seen, Surroundings


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
    assert among_letters[0] < 0.65 < 0.95 < among_digits[0]


def test_two_sure_digits_with_nothing_else_on_the_page_are_as_likely_as_the_model_says() -> None:
    layout = page(100, 400)
    assert confidences(layout, seen(layout, 0.999, 0.999)) == [pytest.approx([0.999 * 0.9999] * 2)]
    assert max(confidences(layout, seen(layout, 0.999, 0.9))[0]) < 0.99


def test_round_digits_with_nothing_else_on_the_page_are_kept_for_review() -> None:
    layout = page(100, 400)
    [row] = seen(layout, 0.999, 0.999)
    assert confidences(layout, [[one._replace(digit=1) for one in row]]) == [[MAYBE, MAYBE]]
    assert max(confidences(layout, [[one._replace(digit=1, plain=True) for one in row]])[0]) < 0.5


@pytest.mark.parametrize(("weak", "most"), [(2, 1.0), (3, 0.0)])
def test_one_weak_digit_in_fifty_leaves_a_page_clear(weak: int, most: float) -> None:
    measured = np.zeros((102, len(FEATURES)))
    measured[:, FEATURES.index("page count")] = np.log1p(101) / 3
    measured[:, FEATURES.index("page weak")] = weak / (101 + SCOPES["page"])
    measured[:, FEATURES.index("page sure")] = (101 - weak) / (101 + SCOPES["page"])
    assert context._most(measured) == most


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


# ---------------------------------------------------------------------- what a mark looks like


def look(*, digit: int = 3, digitness: float = 0.999, clutter: float = 0.0, broken: float = 0.0, cut: bool = False,
         plain: bool = False, height: int = 60) -> Mark:  # fmt: skip
    candidate: Any = SimpleNamespace(box=(0, 0, 40, height), cut_off=cut)
    row: Any = SimpleNamespace(height=60)
    one = Seen(candidate, digit, digitness, 0.99, plain)
    return context._digit(0, row, one, Surroundings(clutter, broken, False))


@pytest.mark.parametrize(
    ("about", "looks"),
    [
        ({}, "sure"), ({"digitness": 0.9971}, "sure"), ({"digitness": 0.9969}, "clear"),
        ({"digitness": 0.951}, "clear"), ({"digitness": 0.949}, "weak"), ({"digitness": 0.501}, "weak"),
        ({"digitness": 0.499}, "other"), ({"digit": 0}, "round"), ({"digit": 1}, "round"), ({"digit": 2}, "sure"),
        ({"plain": True, "digit": 1}, "plain"), ({"cut": True, "plain": True}, "cut"),
        ({"cut": True, "broken": 0.1}, "cut"), ({"cut": True, "broken": 0.11}, "weak"),
        ({"clutter": 5.0}, "weak"), ({"clutter": 8.0}, "other"),
    ],
)  # fmt: skip
def test_a_mark_looks_as_its_digitness_and_its_surroundings_have_it(about: dict[str, Any], looks: str) -> None:
    assert LOOKS[look(**about).look] == looks


def test_a_low_mark_that_is_no_digit_does_not_count() -> None:
    assert look(digitness=0.01, height=33).counts and not look(digitness=0.01, height=32).counts
    assert look(height=32).counts
    assert look(digitness=0.01, height=60).logit == pytest.approx(-4.0)
    assert (look(height=1).off, look().off) == (1.0, 0.0)


def test_log_odds_are_limited() -> None:
    assert context._logit(0.5) == 0 and context._logit(0.0) == -8.0 and context._logit(1.0) == 9.0
    assert context._logit(0.9) == pytest.approx(np.log(9))


def test_words_end_at_gaps_and_rows() -> None:
    def mark(left: int, width: int, row: int = 0) -> Mark:
        return Mark((left, 0, width, 60), row, 0, 0.0, 0.0, True)

    marks = [mark(76, 10, 1), mark(0, 40), mark(76, 10), mark(10, 5), mark(123, 9), mark(87, 1)]
    assert context._words(marks, [36.0, 36.0]).tolist() == [1, 0, 0, 0, 0, 0]
    assert context._words([mark(0, 40), mark(10, 5), mark(77, 10)], [36.0]).tolist() == [0, 0, 1]


def test_what_is_no_part_of_a_digit_is_a_neighbour_if_it_is_as_high_as_a_letter() -> None:
    def part(mark: int, height: int) -> Any:
        return SimpleNamespace(mark=mark, box=(0, 0, 9, height))

    row: Any = SimpleNamespace(height=60, parts=[part(1, 60), part(1, 60), part(2, 33), part(3, 32)])
    one: Any = SimpleNamespace(candidate=SimpleNamespace(start=0, stop=1))
    assert [mark.box[3] for mark in context._others(0, row, [one])] == [33]
    assert [mark.box[3] for mark in context._others(0, row, [])] == [60, 60, 33]


def test_of_a_mark_that_was_cut_the_rest_is_what_no_digit_has() -> None:
    row: Any = SimpleNamespace(
        parts=[SimpleNamespace(mark=mark, area=area) for mark, area in ((1, 30), (1, 10), (2, 5))]
    )
    assert surroundings._broken(row, {0}) == {1: 0.25, 2: 1.0}
    assert surroundings._broken(row, {2}) == {1: 1.0, 2: 0.0}
    assert surroundings._broken(row, {0, 1, 2}) == {1: 0.0, 2: 0.0}


def test_clean_paper_costs_nothing_and_other_ink_and_faint_ink_do() -> None:
    layout = page(400)
    [row], [[one]] = layout.rows, seen(layout, 0.999)
    [clean] = surroundings.surroundings(layout, row, [one])
    assert clean == (0.0, 0.0, False)
    left, top, width, height = one.candidate.box
    dirty = layout.marks.labels.copy()
    for start in (left - 15, left + width + 2):
        dirty[top : top + height, start : start + 13] = 99
    beside = replace(layout, marks=layout.marks._replace(labels=dirty))
    [cluttered] = surroundings.surroundings(beside, row, [one])
    assert cluttered.clutter > 1
    share, _ = surroundings.clutter_around(beside, row, one.candidate)
    assert cluttered.clutter == pytest.approx(35 * (share - 0.14))
    faint = replace(layout, level=(layout.level * (30 / layout.level.max())).astype(np.uint8))
    assert surroundings.surroundings(faint, row, [one])[0].clutter == pytest.approx(0.2 * 10, abs=0.5)


@pytest.mark.parametrize(("box", "edge"), [((2, 2, 96, 46), False), ((1, 2, 50, 40), True), ((2, 1, 50, 40), True),
                                           ((49, 2, 50, 40), True), ((2, 9, 50, 40), True)])  # fmt: skip
def test_a_digit_at_the_border_may_be_cut_off(box: Any, edge: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surroundings, "clutter_around", lambda *_: (0.0, 255.0))
    layout: Any = SimpleNamespace(level=np.zeros((50, 100)))
    row: Any = SimpleNamespace(parts=[SimpleNamespace(mark=1, area=5)])
    candidate: Any = SimpleNamespace(start=0, stop=1, cut_off=True, box=box)
    [sure, unsure] = [
        surroundings.surroundings(layout, row, [Seen(candidate, 3, chance, 0.9)])[0] for chance in (0.6, 0.59)
    ]
    assert (sure, unsure) == ((0.0, 0.0, edge), (0.0, 1.0, edge))


def test_a_whole_digit_is_not_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surroundings, "clutter_around", lambda *_: (0.0, 255.0))
    layout: Any = SimpleNamespace(level=np.zeros((50, 100)))
    row: Any = SimpleNamespace(parts=[SimpleNamespace(mark=1, area=5)])
    candidate: Any = SimpleNamespace(start=0, stop=1, cut_off=False, box=(9, 9, 9, 9))
    assert surroundings.surroundings(layout, row, [Seen(candidate, 3, 0.1, 0.9)]) == [(0.0, 0.0, False)]


def test_a_digit_alone_on_its_page_is_weighed_too() -> None:
    layout = page(100)
    [[alone]] = confidences(layout, seen(layout, 0.999))
    assert alone != pytest.approx(0.999 * 0.9999)
