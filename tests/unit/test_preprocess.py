"""Grey levels to the model's 28 x 28: what must not change the answer, and what is no digit at all."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from shared.settings import SHIPPED_MODEL
from tests.drawings import DIGITS, STROKES, Grey, as_in_mnist, black_on_white, drawn, on
from worker.image.mnist_format import BOX, CENTRE, SIDE
from worker.image.model_input import WARNINGS, ModelInput
from worker.image.normalise import normalise, normalise_uneven
from worker.image.preprocess import seed
from worker.image.ruling import find_ruling
from worker.image.segment import find_digit
from worker.image.threshold import bright_ink, otsu
from worker.inference import golden


def likeness(one: ModelInput, other: ModelInput) -> float:
    """Correlation of the pixels, 1 for the same, in the best of the nine places within a pixel."""
    places = [np.roll(one.pixels, (down, right), (0, 1)) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    return max(float(np.corrcoef(place.ravel(), other.pixels.ravel())[0, 1]) for place in places)


def assert_alike(one: ModelInput, other: ModelInput, least: float = 0.96) -> None:
    assert likeness(one, other) >= least


def assert_blank(seen: ModelInput) -> None:
    assert seen.warnings == ("no_ink",)
    assert not seen.pixels.any()


def test_the_digits_of_these_tests_are_not_alike() -> None:
    seen = [normalise(black_on_white(drawn(number))) for number in STROKES]
    assert max(likeness(one, other) for i, one in enumerate(seen) for other in seen[:i]) < 0.5


# The shape of MNIST


@DIGITS
def test_a_digit_fills_the_20_box_around_its_centre_of_mass(number: int) -> None:
    pixels = normalise(black_on_white(drawn(number))).pixels
    assert (pixels.shape, pixels.dtype) == ((SIDE, SIDE), np.float32)
    assert (pixels.min(), pixels.max()) == (0, 1)
    inked = pixels > 0.5
    rows, columns = np.flatnonzero(inked.any(axis=1)), np.flatnonzero(inked.any(axis=0))
    assert abs(max(np.ptp(rows), np.ptp(columns)) + 1 - BOX) <= 1
    middles = np.arange(SIDE) + 0.5
    for profile in (pixels.sum(axis=1), pixels.sum(axis=0)):
        assert abs(profile @ middles / profile.sum() - CENTRE) < 0.3


@DIGITS
def test_a_digit_as_in_mnist_passes_unchanged(number: int) -> None:
    grey = as_in_mnist(number)
    seen = normalise(grey)
    assert seen.warnings == ()
    assert np.array_equal(seen.pixels, grey.astype(np.float32) / 255)


@DIGITS
def test_a_negative_of_mnist_gives_the_same_pixels(number: int) -> None:
    grey = as_in_mnist(number)
    seen = normalise(255 - grey)
    assert seen.warnings == ("inverted",)
    assert np.array_equal(seen.pixels, normalise(grey).pixels)


@DIGITS
@pytest.mark.parametrize("shift", [(-2, 2), (-3, -2), (0, -3)])
def test_a_shifted_digit_of_mnist_is_put_back_in_its_place(number: int, shift: tuple[int, int]) -> None:
    grey = as_in_mnist(number)
    assert_alike(normalise(np.roll(grey, shift, (0, 1))), normalise(grey), 0.98)


# What people do to a digit


@DIGITS
def test_black_on_white_and_white_on_black_are_the_same(number: int) -> None:
    grey = black_on_white(drawn(number))
    dark, light = normalise(grey), normalise(255 - grey)
    assert np.abs(dark.pixels - light.pixels).max() < 0.02
    assert ("inverted" in dark.warnings, "inverted" in light.warnings) == (True, False)


@DIGITS
@pytest.mark.parametrize(
    ("width", "height", "size", "at"),
    [(200, 200, 60, (10, 120)), (200, 200, 170, (15, 15)), (600, 300, 80, (480, 30)), (60, 60, 40, (8, 12))],
)
def test_place_and_size_do_not_matter(
    number: int, width: int, height: int, size: float, at: tuple[float, float]
) -> None:
    other = normalise(black_on_white(drawn(number, width, height, size, at)))
    assert_alike(other, normalise(black_on_white(drawn(number))))
    assert other.warnings == ("inverted",)


@DIGITS
def test_a_large_picture_is_the_same_digit(number: int) -> None:
    large = drawn(number, 2000, 1500, 900, (600, 300))
    assert_alike(normalise(black_on_white(large)), normalise(black_on_white(drawn(number))))


def _slope(y: Grey, x: Grey) -> Grey:
    return 150 + 60 * x + 20 * y


def _vignette(y: Grey, x: Grey) -> Grey:
    return 230 - 70 * (x * x + y * y)


def _lamp(y: Grey, x: Grey) -> Grey:
    return 90 + 130 * np.exp(-3 * ((x - 0.3) ** 2 + (y + 0.2) ** 2))


def _shadow(y: Grey, x: Grey) -> Grey:
    return 220 - 100 / (1 + np.exp(-20 * (x + 0.4 * y)))


@DIGITS
@pytest.mark.parametrize("light", [_slope, _vignette, _lamp, _shadow])
def test_uneven_light_does_not_matter(number: int, light: Callable[[Grey, Grey], Grey]) -> None:
    ink = drawn(number)
    y, x = np.mgrid[-1 : 1 : ink.shape[0] * 1j, -1 : 1 : ink.shape[1] * 1j]
    assert_alike(normalise(on(light(y, x), ink, noise=3)), normalise(black_on_white(ink)), 0.8)


@DIGITS
@pytest.mark.parametrize("light", [_slope, _vignette, _lamp, _shadow])
def test_the_second_look_bears_shadows_darker_than_the_ink(number: int, light: Callable[[Grey, Grey], Grey]) -> None:
    ink = drawn(number)
    y, x = np.mgrid[-1 : 1 : ink.shape[0] * 1j, -1 : 1 : ink.shape[1] * 1j]
    shade = 1 - 0.6 / (1 + np.exp(-8 * (3 * x + y - 0.5)))
    seen = normalise_uneven(on(light(y, x) * shade, ink, noise=2))
    assert "uneven_light" in seen.warnings
    assert_alike(seen, normalise(black_on_white(ink)))


@DIGITS
def test_noise_and_pale_ink_do_not_matter(number: int) -> None:
    ink = drawn(number)
    seen = normalise(on(230, ink, depth=0.15, noise=3))
    assert_alike(seen, normalise(black_on_white(ink)), 0.93)
    assert "low_contrast" in seen.warnings


@DIGITS
def test_specks_do_not_matter(number: int) -> None:
    ink = drawn(number)
    grey = black_on_white(ink)
    specked = grey.copy()
    specked[[5, 9, 30, 150, 180, 190], [10, 180, 22, 185, 15, 100]] = 0
    assert_alike(normalise(specked), normalise(grey))


@DIGITS
@pytest.mark.parametrize("inset", [0, 8])
def test_a_frame_does_not_matter(number: int, inset: int) -> None:
    grey = black_on_white(drawn(number))
    framed = grey.copy()
    framed[inset : 200 - inset, inset : 200 - inset] = 0
    framed[inset + 4 : 196 - inset, inset + 4 : 196 - inset] = grey[inset + 4 : 196 - inset, inset + 4 : 196 - inset]
    seen = normalise(framed)
    assert_alike(seen, normalise(grey))
    assert seen.warnings == ("inverted",)


@DIGITS
def test_pale_squared_paper_does_not_matter(number: int) -> None:
    ink = drawn(number)
    paper = np.full(ink.shape, 235.0)
    paper[::20] = paper[:, ::20] = 195
    assert_alike(normalise(on(paper, ink, depth=0.85)), normalise(black_on_white(ink)), 0.93)


@DIGITS
def test_the_dark_edge_of_a_desk_does_not_matter(number: int) -> None:
    ink = drawn(number)
    grey = on(230, ink)
    grey[:, 185:] = 40
    assert_alike(normalise(grey), normalise(black_on_white(ink)))


@pytest.mark.parametrize("number", [4, 5, 7, 8])
def test_a_hairline_is_as_bright_as_a_stroke(number: int) -> None:
    pixels = normalise(black_on_white(drawn(number, 400, 400, 300, (50, 50), pen=0.004))).pixels
    assert np.count_nonzero(pixels > 0.8) >= 12
    assert_alike(ModelInput(pixels, ()), normalise(black_on_white(drawn(number, pen=0.08))), 0.65)


@DIGITS
def test_a_digit_cut_tightly_is_read_and_said_to_touch_the_border(number: int) -> None:
    ink = drawn(number)
    rows, columns = np.flatnonzero(ink.max(axis=1) > 0.5), np.flatnonzero(ink.max(axis=0) > 0.5)
    margin = 12 if number == 1 else 0  # a 1 cut on all sides is a dark square
    tight = ink[rows[0] : rows[-1] + 1, max(columns[0] - margin, 0) : columns[-1] + 1 + margin]
    seen = normalise(black_on_white(tight))
    assert_alike(seen, normalise(black_on_white(ink)))
    assert seen.warnings == ("inverted", "touches_border")


def test_a_thin_1_stays_thin() -> None:
    columns = (normalise(black_on_white(drawn(1, pen=0.05))).pixels > 0.5).any(axis=0)
    assert 1 <= np.count_nonzero(columns) <= 3


def ruled(ink: Grey, lean: float = 0.0, squares: bool = True, depth: float = 0.9) -> Grey:
    """Ink and print, the lines two pixels wide, every 25th row (and column), leaning by that many rows per column."""
    y, x = np.mgrid[: ink.shape[0], : ink.shape[1]]
    lines = (y + lean * x) % 25 < 2
    lines |= squares & ((x - lean * y) % 25 < 2)
    return np.maximum(ink, depth * lines)


@DIGITS
@pytest.mark.parametrize("squares", [False, True])
@pytest.mark.parametrize("lean", [0.0, 0.04, -0.04])
def test_lines_as_dark_as_the_ink_are_removed(number: int, squares: bool, lean: float) -> None:
    ink = drawn(number)
    seen = normalise(black_on_white(ruled(ink, lean, squares)))
    assert_alike(seen, normalise(black_on_white(ink)), 0.85)
    assert "lines_removed" in seen.warnings


@DIGITS
def test_what_crosses_a_line_stays_whole(number: int) -> None:
    ink = drawn(number)
    lines = find_ruling(ruled(ink, squares=False) > 0.5)
    assert lines is not None
    stem = ink[100] > 0.5
    assert ruled(np.zeros_like(ink), squares=False)[100].all()
    assert lines[100, ~stem].mean() > 0.9
    if number in (1, 7, 8):
        assert not lines[100, stem].any()


@DIGITS
@pytest.mark.parametrize("pen", [0.03, 0.1])
def test_a_digit_from_border_to_border_is_no_line(number: int, pen: float) -> None:
    ink = drawn(number, 200, 200, 180, (10, 10), pen)
    assert "lines_removed" not in normalise(black_on_white(ink)).warnings


@DIGITS
@pytest.mark.parametrize("frame", [0, 255])
@pytest.mark.parametrize("levels", [(220, 120), (40, 150)])
def test_a_frame_does_not_decide_what_is_ink(number: int, frame: int, levels: tuple[int, int]) -> None:
    ink, paper = levels
    grey = np.rint(paper + (ink - paper) * drawn(number)).astype(np.uint8)
    framed = np.full_like(grey, frame)
    framed[15:-15, 15:-15] = grey[15:-15, 15:-15]
    assert_alike(normalise(framed), normalise(grey))


@DIGITS
def test_the_shadow_along_two_borders_of_a_scan_does_not_matter(number: int) -> None:
    grey = black_on_white(drawn(number, size=70, at=(60, 60)))
    scan = grey.copy()
    scan[:9] = scan[:, :7] = 10
    assert_alike(normalise(scan), normalise(grey))


@DIGITS
@pytest.mark.parametrize("share", [0.04, 0.08])
def test_salt_and_pepper_are_smoothed_away(number: int, share: float) -> None:
    grey = black_on_white(drawn(number))
    random = np.random.default_rng(number).random(grey.shape)
    seen = normalise(np.where(random < share / 2, 0, np.where(random > 1 - share / 2, 255, grey)).astype(np.uint8))
    assert_alike(seen, normalise(grey), 0.94)
    assert "noisy" in seen.warnings


@DIGITS
def test_heavy_noise_does_not_matter(number: int) -> None:
    ink = drawn(number)
    assert_alike(normalise(on(215, ink, depth=0.75, noise=45)), normalise(black_on_white(ink)), 0.9)


@pytest.mark.parametrize("number", [4, 5, 8])
def test_a_fat_digit_that_fills_its_crop_is_still_the_ink(number: int) -> None:
    ink = drawn(number, pen=0.27)
    rows, columns = np.flatnonzero(ink.max(axis=1) > 0.5), np.flatnonzero(ink.max(axis=0) > 0.5)
    tight = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    assert tight.mean() > 0.45
    assert "inverted" in normalise(black_on_white(tight)).warnings
    assert "inverted" not in normalise(255 - black_on_white(tight)).warnings


def test_no_part_of_a_digit_leaves_the_frame_however_much_ink_is_at_the_other_end() -> None:
    ink = np.zeros((200, 200))
    ink[20:60, 80:120] = 1
    ink[60:180, 98:102] = 1
    pixels = normalise(black_on_white(ink)).pixels
    rows = np.flatnonzero((pixels > 0.3).any(axis=1))
    assert BOX - 1 <= rows[-1] - rows[0] + 1 <= BOX + 1
    assert rows[-1] <= SIDE - 1
    assert pixels[-1].max() > 0 or rows[-1] < SIDE - 1


def pair(one: int, other: int, gap: float = 20, low: float = 0) -> Grey:
    """Two digits, 80 high, the other so far to the right and so much lower."""
    first, second = drawn(one, 300, 200, 80, (50, 40)), drawn(other, 300, 200, 80, (0, 40 + low))
    left = np.flatnonzero(second.max(axis=0) > 0)[0]
    right = np.flatnonzero(first.max(axis=0) > 0)[-1]
    return np.maximum(first, np.roll(second, int(right + gap - left), axis=1))


@pytest.mark.parametrize("one", STROKES)
@pytest.mark.parametrize("other", STROKES)
def test_two_digits_side_by_side_are_said_to_be_several(one: int, other: int) -> None:
    assert "several_digits" in normalise(black_on_white(pair(one, other))).warnings


@DIGITS
def test_one_digit_is_not_several(number: int) -> None:
    for grey in (drawn(number), drawn(number, pen=0.02), drawn(number, 60, 60, 40, (8, 12))):
        assert "several_digits" not in normalise(black_on_white(grey)).warnings


def test_pieces_of_a_digit_are_not_several() -> None:
    loose_bar = drawn(5)
    loose_bar[48:54] = 0
    broken = drawn(4)
    broken[:, 104:108] = 0
    for ink in (loose_bar, broken):
        assert "several_digits" not in normalise(black_on_white(ink)).warnings


@pytest.mark.parametrize("number", [4, 5, 8])
def test_a_hairline_is_said_to_be_too_thin_and_a_stroke_is_not(number: int) -> None:
    hairline = normalise(black_on_white(drawn(number, 1000, 1000, 800, (100, 100), pen=0.001)))
    assert "too_thin" in hairline.warnings
    assert "too_thin" not in normalise(black_on_white(drawn(number))).warnings


# What is no digit


@pytest.mark.parametrize("level", [0, 1, 127, 255])
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (28, 28), (200, 300)])
def test_one_level_is_blank(level: int, shape: tuple[int, int]) -> None:
    assert_blank(normalise(np.full(shape, level, np.uint8)))


@pytest.mark.parametrize("deviation", [0.5, 3, 30])
def test_noise_is_blank(deviation: float) -> None:
    assert_blank(normalise(on(150, np.zeros((200, 200)), noise=deviation)))


@pytest.mark.parametrize("light", [_slope, _vignette])
def test_uneven_light_alone_is_blank(light: Callable[[Grey, Grey], Grey]) -> None:
    y, x = np.mgrid[-1:1:200j, -1:1:200j]
    assert_blank(normalise(on(light(y, x), np.zeros((200, 200)), noise=3)))


def test_one_pixel_on_a_large_sheet_is_blank() -> None:
    grey = np.full((300, 300), 255, np.uint8)
    grey[100, 100] = 0
    assert_blank(normalise(grey))


def checked(seen: ModelInput) -> ModelInput:
    """Hold for every picture."""
    assert (seen.pixels.shape, seen.pixels.dtype) == ((SIDE, SIDE), np.float32)
    assert np.isfinite(seen.pixels).all()
    assert 0 <= seen.pixels.min() <= seen.pixels.max() <= 1
    assert ("no_ink" in seen.warnings) == (not seen.pixels.any())
    assert set(seen.warnings) <= set(WARNINGS)
    return seen


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 2**32), st.sampled_from([0.01, 0.1, 0.5, 0.9]))
def test_any_picture_of_any_size_gives_sound_pixels(height: int, width: int, start: int, share: float) -> None:
    random = np.random.default_rng(start)
    noise = random.integers(0, 256, (height, width), np.uint8)
    dots = (255 * (random.random((height, width)) < share)).astype(np.uint8)
    for grey in (noise, dots, np.maximum(noise, dots), np.minimum(noise, dots)):
        checked(normalise(grey))
        checked(seed(grey))


@pytest.mark.parametrize("shape", [(1, 5000), (5000, 1), (3, 2000), (2, 2)])
def test_strips_give_sound_pixels(shape: tuple[int, int]) -> None:
    grey = np.full(shape, 255, np.uint8)
    grey[..., : max(1, shape[1] // 3)] = 0
    grey[: max(1, shape[0] // 3)] = 0
    checked(normalise(grey))


# The parts


def test_the_split_finds_paper_and_ink() -> None:
    split = otsu(np.array([[20] * 9 + [30, 200, 210]], np.uint8))
    assert 30 <= split.threshold < 200
    assert split.paper == 20
    assert split.contrast == pytest.approx(205 - 21)


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_the_lesser_part_is_the_ink(share: float) -> None:
    grey = np.full((50, 50), 220, np.uint8)
    grey[10 : 10 + int(2500 * share / 30), 10:40] = 20
    assert bright_ink(grey)[1]
    assert not bright_ink(255 - grey)[1]


@pytest.mark.parametrize("side", [8, 16, 32])
def test_a_digit_that_fills_its_picture_keeps_its_polarity(side: int) -> None:
    """As datasets of old have them: 8x8 or 16x16, cut tightly, ink on all sides of the border."""
    wrong = 0
    with np.load(SHIPPED_MODEL / golden.FILE) as recorded:
        digits = recorded["images"]
    for image in digits:
        rows, columns = np.flatnonzero(image.max(axis=1) > 60), np.flatnonzero(image.max(axis=0) > 60)
        cut = Image.fromarray(image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
        tight = np.asarray(cut.resize((8, 8), Image.Resampling.BOX).resize((side, side), Image.Resampling.BICUBIC))
        wrong += bright_ink(tight)[1] + (not bright_ink(255 - tight)[1])
    assert wrong <= len(digits) * 2 * 0.02


def test_the_loose_bar_of_a_5_belongs_to_it() -> None:
    mask = np.zeros((60, 60), np.bool_)
    mask[10:14, 30:48] = True
    mask[18:50, 20:40] = True
    mask[5, 5] = True
    kept, several = find_digit(mask)
    assert not several
    assert kept[10:14, 30:48].all()
    assert not kept[5, 5]


# Other pictures than these drawings


def test_the_first_recipe_is_black_or_white_from_level_50() -> None:
    grey = np.full((28, 28), 255, np.uint8)
    grey[3, 4:6] = 205, 204
    pixels = seed(grey).pixels
    assert np.argwhere(pixels).tolist() == [[3, 5]]
    assert_blank(seed(np.full((40, 30), 230, np.uint8)))
