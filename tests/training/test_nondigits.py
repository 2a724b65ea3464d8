"""Drawn non-digits: reproducible, of every kind, and never similar to a digit."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import ImageFont

from worker.image.normalise import normalise
from worker.training.drawing import letters, nondigits, scenes, shapes
from worker.training.drawing.nondigits import KINDS, UNSEEN, draw


def seven_and_bar() -> np.ndarray:
    """Two digits as in MNIST, as far as it matters: an upright of 20 pixels, and a 7."""
    images = np.zeros((2, 28, 28), np.uint8)
    images[0, 4:24, 13:16] = images[1, 4:7, 7:21] = images[1, 4:24, 18:21] = 255
    return images


IMAGES = seven_and_bar()


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_depends_on_the_generator_alone(kind):
    one, same, other = (draw(kind, IMAGES, np.random.default_rng(seed)) for seed in (4, 4, 5))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("kinds", [KINDS, UNSEEN])
@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_is_one_that_serving_takes(kind, kinds):
    rng = np.random.default_rng(1)
    for _ in range(20):
        picture = kinds[kind](IMAGES, rng)
        assert (picture.dtype, picture.ndim) == (np.uint8, 2)
        assert 10 <= min(picture.shape) <= max(picture.shape) <= 160
        assert normalise(picture).pixels.shape == (28, 28)


def test_every_kind_looks_different_to_the_model():
    rng = np.random.default_rng(0)
    means = {kind: np.mean([normalise(draw(kind, IMAGES, rng)).pixels for _ in range(40)], axis=0) for kind in KINDS}
    for (one, a), (other, b) in combinations(means.items(), 2):
        assert np.linalg.norm(a - b) > 0.5, (one, other)


def test_what_is_drawn_has_ink_and_what_is_blank_mostly_none():
    rng = np.random.default_rng(0)
    blank = {kind: np.mean([_is_blank(draw(kind, IMAGES, rng)) for _ in range(40)]) for kind in KINDS}
    assert max(blank[kind] for kind in list(KINDS)[:6]) <= 0.1
    assert blank["blank"] > 0.3


def _is_blank(picture: np.ndarray) -> bool:
    return "no_ink" in normalise(picture).warnings


# Letters


def test_what_may_be_a_digit_is_never_drawn():
    assert not letters.LOOKALIKES & set(letters.LETTERS + letters.SIGNS + "".join(letters.WRITTEN))
    assert set("OoIl|01") - {"0"} <= letters.LOOKALIKES
    assert not any(character.isdigit() for character in letters.LETTERS + letters.SIGNS)


@pytest.mark.parametrize("kind", ["letters", "words", "symbols"])
def test_printed_texts_are_of_letters_that_are_no_digits(kind, monkeypatch):
    texts = []
    printed = letters.print_
    monkeypatch.setattr(nondigits, "print_", lambda text, font: texts.append(text) or printed(text, font))
    rng = np.random.default_rng(0)
    for _ in range(100):
        draw(kind, IMAGES, rng)
    assert len(texts) > 20
    assert all(text[0] not in letters.LOOKALIKES for text in texts)
    assert {len(text) > 1 for text in texts} == {kind == "words"}


@pytest.mark.parametrize("name", [*letters.WRITTEN, *letters.DRAWN])
def test_a_written_form_fills_its_picture(name):
    ink = letters.write({**letters.WRITTEN, **letters.DRAWN}[name], np.random.default_rng(0))
    assert ink.max() == 255
    assert ink.any(axis=0).mean() > 0.8
    assert max(ink.shape) < 2 * letters.SIZE


def test_fonts_held_out_are_of_other_families():
    names = [{font.getname()[0] for font in letters.fonts(held_out)} for held_out in (False, True)]
    assert names[0]
    assert not names[0] & names[1]
    assert letters._is_held_out(Path("Sans-Bold.ttf")) == letters._is_held_out(Path("sub/sans-Italic.otf"))
    families = [letters._is_held_out(Path(f"Family{number}-Bold.ttf")) for number in range(300)]
    assert np.mean(families) == pytest.approx(1 / 3, abs=0.1)


def test_training_and_measuring_print_with_their_own_fonts(monkeypatch):
    fonts = {held_out: (ImageFont.load_default(40 + held_out),) for held_out in (False, True)}
    used = set()
    printed = letters.print_
    monkeypatch.setattr(nondigits, "fonts", fonts.get)
    monkeypatch.setattr(nondigits, "print_", lambda text, font: used.add(font) or printed(text, font))
    for kinds, held_out in ((KINDS, False), (UNSEEN, True)):
        used.clear()
        for kind in ("letters", "words", "symbols") * 10:
            kinds[kind](IMAGES, np.random.default_rng(len(used)))
            kinds[kind](IMAGES, np.random.default_rng(7))
        assert used <= set(fonts[held_out])
    assert used


def test_without_fonts_held_out_letters_are_written(monkeypatch):
    monkeypatch.setattr(nondigits, "fonts", lambda held_out: ())
    monkeypatch.setattr(nondigits, "print_", None)
    rng = np.random.default_rng(0)
    assert all(UNSEEN[kind](IMAGES, rng).size for kind in ("letters", "words", "symbols") * 10)


def test_a_font_has_a_character_if_it_shows_it_and_no_box():
    font = ImageFont.load_default(40)
    assert letters.prints("7", font)
    assert not any(letters.prints(numeral, font) for numeral in letters.NUMERALS)


def test_numerals_are_those_of_other_scripts_and_signs_where_no_font_has_them(monkeypatch):
    assert not set("0123456789٠١٩۰۱۹०१२३९০১২৪৮৯") & set(letters.NUMERALS)
    sign = np.full((60, 60), 255, np.uint8)
    monkeypatch.setattr(nondigits, "_faces", lambda text, held_out: [])
    monkeypatch.setattr(nondigits, "_symbol", lambda images, rng, held_out: sign)
    assert nondigits._numeral(IMAGES, np.random.default_rng(0), held_out=True) is sign


# Digits, shapes and scenes


def test_several_digits_are_those_that_were_given():
    rng = np.random.default_rng(0)
    for _ in range(30):
        height, width = nondigits._several(IMAGES[:1], rng).shape
        assert height < 60 or width < 60  # a row, or two rows of uprights
    widths = [nondigits._several(IMAGES[1:], rng).shape[1] for _ in range(30)]
    assert min(widths) >= 27
    assert np.mean(widths) > 60


def test_serving_takes_several_digits_for_one_thing():
    rng = np.random.default_rng(0)
    seen = [normalise(draw("several digits", IMAGES[1:], rng)).pixels > 0.3 for _ in range(40)]
    plain = normalise(IMAGES[1]).pixels > 0.3
    assert np.mean([np.array_equal(one, plain) for one in seen]) == 0
    wide = [np.ptp(np.flatnonzero(one.any(axis=0))) for one in seen if one.any()]
    assert np.mean(np.array(wide) > 16) > 0.8  # a 7 alone is 14 wide


def test_shapes_and_scribbles_stay_in_their_square():
    rng = np.random.default_rng(0)
    for ink in (make(rng) for make in (shapes.shape, shapes.scribble, shapes.bubble) for _ in range(60)):
        assert ink.shape == (shapes.SIDE, shapes.SIDE)
        assert ink.max() > 200
        assert not ink[0, 0]


def test_a_bubble_is_hardly_ever_a_ring():
    rng = np.random.default_rng(0)
    filled = []
    for ink in (shapes.bubble(rng) for _ in range(100)):
        _, parts, boxes, _ = cv2.connectedComponentsWithStats((ink > 100).astype(np.uint8), connectivity=8)
        filled.append((parts == boxes[1:, 4].argmax() + 1)[24:48, 24:48].any())
    assert np.mean(filled) > 0.8


def test_scenes_and_paper_have_their_levels_and_their_sides():
    rng = np.random.default_rng(0)
    for make in (scenes.blank, scenes.noise, scenes.texture, scenes.scene):
        pictures = [make(rng) for _ in range(40)]
        assert len({picture.shape for picture in pictures}) > 30
        assert all(max(picture.shape) <= 2.1 * min(picture.shape) for picture in pictures)
    assert np.mean([np.ptp(scenes.blank(rng)) for _ in range(60)]) < np.mean(
        [np.ptp(scenes.scene(rng)) for _ in range(60)]
    )
