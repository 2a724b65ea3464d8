"""The limits of decoding, each at its bound: frames, scans, sizes, orientations, colour and edges."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from shared.errors import UndecodableImage
from worker.decoding import colour, transparency
from worker.decoding.bit_depth import to_8_bit
from worker.decoding.decode import decode, decode_page, upright_size
from worker.decoding.jpeg import scan_count

PLENTY = 10**8


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    out = BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def sheet(width: int, height: int, *, level: int = 250, ink: int | None = None) -> Image.Image:
    """Paper of one level; with ink, a square of another level in the middle of it."""
    image = Image.new("L", (width, height), level)
    if ink is not None:
        image.paste(ink, (width // 3, height // 3, width // 2, height // 2))
    return image


@pytest.mark.parametrize(("blank", "found"), [(15, True), (16, False)])
def test_sixteen_frames_are_searched_for_ink(blank: int, found: bool) -> None:
    frames = [sheet(30, 30, level=200 + at % 2) for at in range(blank)] + [sheet(30, 30, ink=0)]
    data = encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:])
    assert bool(decode(data, max_pixels=PLENTY).min() < 50) is found


@pytest.mark.parametrize(("apart", "first"), [(10, False), (11, True)])
def test_a_frame_whose_levels_are_hardly_apart_is_blank(apart: int, first: bool) -> None:
    frames = [sheet(30, 30, level=200, ink=200 - apart), sheet(30, 30, ink=0)]
    data = encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:])
    assert (int(decode(data, max_pixels=PLENTY).min()) == 200 - apart) is first


@pytest.mark.parametrize(
    ("size", "decoded"),
    [((1024, 1024), 512), ((1023, 1400), 1023), ((2048, 2100), 512), ((2047, 2047), 1024), ((4096, 4096), 512)],
)
def test_a_jpeg_is_decoded_smaller_while_both_sides_keep_512_pixels(size: tuple[int, int], decoded: int) -> None:
    assert decode(encoded(sheet(*size), "JPEG"), max_pixels=PLENTY).shape[1] == decoded


@pytest.mark.parametrize(("scans", "refused"), [(500, False), (501, True)])
def test_five_hundred_scans_are_decoded_and_one_more_is_not(scans: int, refused: bool) -> None:
    data = encoded(sheet(64, 64, ink=0), "JPEG")
    comment = b"\xff\xda" * (scans - 1)
    padded = data[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + data[2:]
    assert scan_count(padded) == scans
    if refused:
        with pytest.raises(UndecodableImage, match="too many scans"):
            decode(padded, max_pixels=PLENTY)
    else:
        assert decode(padded, max_pixels=PLENTY).shape == (64, 64)


@pytest.mark.parametrize(
    ("size", "format", "shape"),
    [
        ((3000, 2000), "PNG", (1600, 2400)), ((2400, 300), "PNG", (300, 2400)), ((300, 2401), "PNG", (2400, 300)),
        ((4000, 3000), "JPEG", (1500, 2000)), ((3600, 1800), "JPEG", (900, 1800)), ((3598, 100), "JPEG", (67, 2400)),
    ],
)  # fmt: skip
def test_a_page_has_2400_pixels_at_most_and_a_photo_1800_at_least(
    size: tuple[int, int], format: str, shape: tuple[int, int]
) -> None:
    page = decode_page(encoded(sheet(*size), format), max_pixels=PLENTY)
    assert page.grey.shape == shape and page.size == size


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_upright_size_follows_the_orientation(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(sheet(60, 40), "JPEG", exif=exif)
    expected = (40, 60) if orientation >= 5 else (60, 40)
    assert upright_size(data) == expected
    assert decode(data, max_pixels=PLENTY).shape[::-1] == expected


@pytest.mark.parametrize("most", [100, 255, 256, 1023, 1024, 4095])
def test_white_is_the_largest_value_of_the_fewest_bits(most: int) -> None:
    levels = np.array([[0, most // 2, most]], np.uint16)
    white = max(255, 2 ** most.bit_length() - 1)
    assert to_8_bit(levels)[0].tolist() == [round(one * 255 / white) for one in (0, most // 2, most)]


def coloured(ink: tuple[int, int, int], paper: tuple[int, int, int]) -> Image.Image:
    image = Image.new("RGB", (60, 60), paper)
    for at in range(10, 50, 8):
        image.paste(ink, (10, at, 50, at + 3))
    return image


@pytest.mark.parametrize(("blue", "by_colour"), [(9, False), (11, True)])
def test_colour_counts_where_it_is_more_than_the_noise_of_a_jpeg(blue: int, by_colour: bool) -> None:
    """Yellow on white: nearly the same in luma."""
    found = colour._contrast_weights(coloured((250, 250, 250 - blue), (250, 250, 250)))
    assert (found is not None) is by_colour


@pytest.mark.parametrize(("luma", "by_colour"), [(24, True), (34, False)])
def test_colour_counts_where_it_tells_twice_as_much_as_luma(luma: int, by_colour: bool) -> None:
    found = colour._contrast_weights(coloured((200 - luma, 200 - luma, 130 - luma), (200, 200, 200)))
    assert (found is not None) is by_colour


@pytest.mark.parametrize(("apart", "paper"), [(48, False), (50, True)])
def test_ink_on_a_sticker_is_told_from_its_grain(apart: int, paper: bool) -> None:
    """The transparent area around the sticker takes the sticker's level if there is ink on it."""
    grey, alpha = Image.new("L", (80, 80), 120), Image.new("L", (80, 80))
    alpha.paste(255, (10, 10, 70, 70))
    grey.paste(120 - apart, (30, 30, 50, 50))
    corner = int(np.asarray(transparency.flatten(grey, alpha))[0, 0])
    assert (corner == 120) is paper
