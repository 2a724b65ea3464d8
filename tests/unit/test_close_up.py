"""A small digit on a large page is looked at from near, if it is the only thing there."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from tests.fakes import Sure
from tests.pictures import seven
from worker.decoding.decode import FEW_SCANS, decode
from worker.image.arrays import Grey
from worker.image.close_up import close_up
from worker.inference.classify import Classifier
from worker.inference.decision import decide

WIDTH, HEIGHT = 1240, 1754  # A4 at 150 dpi: four pixels for one
PLACE = (500, 900)


def page(*sizes: int, paper: int = 245, ink: int = 30, apart: int = 300) -> Image.Image:
    """A sheet with a 7 of each size in pixels, from the same place on to the right."""
    image = Image.new("L", (WIDTH, HEIGHT), paper)
    for number, size in enumerate(sizes):
        drawn = Image.open(BytesIO(seven(size * 2)))
        image.paste(ink, (PLACE[0] + number * apart, PLACE[1]), drawn.crop(drawn.getbbox()))
    return image


def seen(image: Image.Image, whole: Image.Image | None = None) -> tuple[Grey, bool]:
    return close_up(np.asarray(image), lambda: np.asarray(whole or image))


def is_part(image: Image.Image) -> bool:
    """Return True if the 7 is cut out at its own resolution, with paper around it."""
    grey, _ = seen(image)
    levels = np.asarray(image)
    rows, columns = np.nonzero(np.abs(grey.astype(int) - int(np.median(levels))) > 60)
    size = max(np.ptp(rows), np.ptp(columns), 1)
    return grey.size < levels.size / 9 and size * 2 < max(grey.shape) < size * 8


@pytest.mark.parametrize("size", [24, 40, 60])
@pytest.mark.parametrize("change", [lambda one: one, ImageOps.invert, ImageOps.mirror])
def test_a_small_digit_is_cut_out_at_its_own_resolution(size: int, change: Callable[[Image.Image], Any]) -> None:
    assert is_part(change(page(size)))


def test_pale_ink_on_paper_in_the_shade_with_grain_is_found() -> None:
    slope = np.linspace(0, 60, WIDTH)[None, :] + np.linspace(0, 30, HEIGHT)[:, None]
    grain = np.random.default_rng(0).normal(0, 4, (HEIGHT, WIDTH))
    levels = np.asarray(page(60, paper=235, ink=110), np.float64) - slope + grain
    grey, _ = seen(Image.fromarray(levels.clip(0, 255).astype(np.uint8)))
    assert grey.size < levels.size / 9


def test_a_digit_that_is_large_enough_is_left_where_it_is() -> None:
    image = page(120)
    assert np.array_equal(seen(image)[0], np.asarray(image))


def test_a_small_picture_is_left_as_it_is() -> None:
    image = Image.open(BytesIO(seven(300)))
    assert np.array_equal(seen(image)[0], np.asarray(image))


def test_a_blank_page_is_left_as_it_is() -> None:
    assert seen(page())[0].shape == (HEIGHT, WIDTH)


@pytest.mark.parametrize("apart", [70, 150, 600])
@pytest.mark.parametrize("sizes", [(40, 40), (60, 40), (40, 60)])
def test_no_digit_is_cut_out_from_between_others(sizes: tuple[int, ...], apart: int) -> None:
    grey, _ = seen(page(*sizes, apart=apart))
    assert grey.shape == (HEIGHT, WIDTH) or grey.shape[1] > apart


def test_a_thin_1_beside_a_thick_digit_is_no_speck() -> None:
    image = page(60).filter(ImageFilter.MinFilter(9))
    ImageDraw.Draw(image).line((900, 300, 900, 366), fill=60, width=3)
    assert seen(image)[0].shape == (HEIGHT, WIDTH)


def test_specks_of_dust_do_not_keep_a_digit_from_being_found() -> None:
    image = page(60)
    dust, draw = np.random.default_rng(1), ImageDraw.Draw(image)
    for x, y in dust.integers(100, 1200, (30, 2)).tolist():
        draw.ellipse((x, y, x + 3, y + 3), fill=60)
    draw.rectangle((1100, 200, 1108, 208), fill=60)  # a flake with a tenth of its ink
    assert seen(image)[0].size < WIDTH * HEIGHT / 9


def test_faint_ruling_does_not_keep_a_digit_from_being_found() -> None:
    image = page(60)
    for y in range(100, HEIGHT, 48):
        ImageDraw.Draw(image).line((0, y, WIDTH, y), fill=150, width=3)
    assert seen(image)[0].size < WIDTH * HEIGHT / 9


@pytest.mark.parametrize("words", [1, 3, 300])
def test_a_page_of_text_is_left_as_it_is(words: int) -> None:
    image, dice = page(), np.random.default_rng(words)
    for _ in range(words):
        x, y = dice.integers(100, 1000, 2).tolist()
        ImageDraw.Draw(image).text((x, y), "the name of the box", fill=30, font_size=24)
    assert seen(image)[0].shape == (HEIGHT, WIDTH)


def test_what_hangs_on_the_border_is_not_cut_out() -> None:
    image = Image.new("L", (WIDTH, HEIGHT), 245)
    image.paste(page(40).crop((480, 880, 620, 1000)).crop((20, 20, 90, 90)), (0, 700))
    assert seen(image)[0].shape == (HEIGHT, WIDTH)


@pytest.mark.parametrize(("size", "small"), [(12, True), (40, False)])
def test_a_digit_with_fewer_pixels_than_the_model_looks_at_is_too_small(size: int, small: bool) -> None:
    assert seen(page(size))[1] is small


def test_a_digit_that_is_too_small_is_told_and_not_accepted() -> None:
    [tiny, small] = Classifier(Sure(), 10**8)([np.asarray(page(size)) for size in (12, 40)]).results
    assert not isinstance(tiny, Exception) and not isinstance(small, Exception)
    assert "too_small" in tiny.warnings and tiny.decision == "review"
    assert "too_small" not in small.warnings and small.decision == "accept"
    assert decide(0.99, 1.0, ("too_small",), {"accept": 0.9, "reject": 0.5, "digit": 0.0})[0] == "review"


def test_a_small_digit_among_others_is_told_to_be_too_small_and_not_accepted() -> None:
    image = page(25, 22)
    [found] = Classifier(Sure(), 10**8)([np.asarray(image)]).results
    assert not isinstance(found, Exception)
    assert "too_small" in found.warnings and found.decision != "accept"


def test_a_small_digit_in_a_small_picture_is_not_told_to_be_too_small() -> None:
    image = page(8).crop((470, 870, 570, 970))
    [found] = Classifier(Sure(), 10**8)([np.asarray(image)]).results
    assert not isinstance(found, Exception)
    assert "too_small" not in found.warnings


def jpeg(image: Image.Image) -> bytes:
    out = BytesIO()
    image.save(out, "JPEG", quality=90)
    return out.getvalue()


def test_of_a_jpeg_that_was_decoded_smaller_all_pixels_are_asked_for() -> None:
    data = jpeg(page(50).resize((WIDTH * 2, HEIGHT * 2)))
    small, whole = decode(data, max_pixels=10**8), decode(data, max_pixels=10**8, whole=True)
    assert whole.shape == (HEIGHT * 2, WIDTH * 2) and small.shape == (-(-HEIGHT // 2), WIDTH // 2)
    grey, too_small = close_up(small, lambda: whole)
    assert 200 < max(grey.shape) < 600 and not too_small


def test_a_jpeg_of_many_scans_is_never_read_in_all_its_detail() -> None:
    data = jpeg(page(50).resize((WIDTH * 2, HEIGHT * 2)))
    padded = data[:2] + b"\xff\xfe" + (2 * FEW_SCANS + 4).to_bytes(2, "big") + b"\xff\xda" * (FEW_SCANS + 1) + data[2:]
    assert decode(padded, max_pixels=10**8, whole=True).shape == (-(-HEIGHT // 2), WIDTH // 2)
