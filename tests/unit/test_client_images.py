"""Tests of the forms in which the Python clients take pictures, and of the files that they send of them."""

from __future__ import annotations

import os
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from digitq import Client
from producer.client.images import batch_file, name_and_data
from tests.pictures import seven

GREY = np.arange(12, dtype=np.uint8).reshape(3, 4)


def pixels(image: Any) -> Any:
    return np.asarray(PIL.Image.open(BytesIO(name_and_data(image)[1])))


@pytest.mark.parametrize(
    ("image", "arrives"),
    [
        (GREY, GREY),
        (GREY[..., None], GREY),
        (GREY / 255, GREY),
        ((GREY / 255).astype(np.float32), GREY),
        (GREY > 5, (GREY > 5) * np.uint8(255)),
        (GREY.astype(np.int64), GREY),
        (np.dstack([GREY] * 3), np.dstack([GREY] * 3)),
        (np.dstack([GREY] * 4), np.dstack([GREY] * 4)),
        (PIL.Image.fromarray(GREY), GREY),
        (PIL.Image.fromarray(np.dstack([GREY] * 3)), np.dstack([GREY] * 3)),
        (PIL.Image.fromarray((GREY > 5) * np.uint8(255)).convert("1"), GREY > 5),
    ],
    ids=lambda value: f"{type(value).__name__} {getattr(value, 'dtype', '')}",
)
def test_arrays_and_pillow_images_arrive_with_the_same_pixels(image: Any, arrives: Any) -> None:
    assert np.array_equal(pixels(image), arrives)


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "HSV", "LAB", "F", "P", "LA", "I;16", "RGBX"])
def test_every_mode_of_pillow_can_be_submitted(mode: str) -> None:
    assert pixels(PIL.Image.new(mode, (4, 3))).shape[:2] == (3, 4)


def test_a_photo_opened_with_pillow_arrives_upright(tmp_path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # turn it clockwise
    PIL.Image.new("L", (4, 3)).save(tmp_path / "photo.jpg", exif=exif)
    with PIL.Image.open(tmp_path / "photo.jpg") as photo:
        assert pixels(photo).shape == (4, 3)


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (7, TypeError, "expected bytes, a path, a file opened with 'rb', a NumPy array or a Pillow image, not int"),
        (None, TypeError, "not NoneType"),
        ([[0, 255]], TypeError, "not list"),
        (StringIO("text"), TypeError, "opened with 'rb'"),
        (np.zeros(784), ValueError, r"expected an array of height × width, .* not \(784,\)"),
        (np.zeros((2, 28, 28)), ValueError, r"not \(2, 28, 28\)"),
        (np.zeros((0, 28)), ValueError, r"not \(0, 28\)"),
        (np.full((2, 2), 255.0), ValueError, "from 0 to 1"),
        (np.full((2, 2), np.nan), ValueError, "from 0 to 1"),
        (np.full((2, 2), 256), ValueError, "from 0 to 255"),
        (np.full((2, 2), -1), ValueError, "from 0 to 255"),
        (np.full((2, 2), "x"), TypeError, "numbers"),
        ("missing.png", FileNotFoundError, "missing.png"),
    ],
)
def test_what_is_no_picture_is_an_error_that_says_what_is_expected(
    image: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        name_and_data(image)
    with Client("http://127.0.0.1:1") as client, pytest.raises(error, match=message):
        client.submit(image)


def test_a_translucent_image_keeps_its_transparency_and_a_colour_that_is_called_a_is_none() -> None:
    assert pixels(PIL.Image.new("RGBa", (4, 3), (0, 0, 0, 128)))[0, 0].tolist() == [0, 0, 0, 128]
    assert pixels(PIL.Image.new("PA", (4, 3))).shape == (3, 4, 4)
    assert pixels(PIL.Image.new("LAB", (4, 3))).shape == (3, 4, 3)
    assert PIL.Image.open(BytesIO(name_and_data(PIL.Image.new("P", (4, 3)))[1])).mode == "P"


def test_a_tensor_is_taken_as_its_array() -> None:
    class Tensor:
        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            return GREY

    assert np.array_equal(pixels(Tensor()), GREY)


@pytest.mark.parametrize("level", [0, 1, 127, 254, 255])
def test_a_float_is_rounded_to_the_nearest_level(level: int) -> None:
    assert pixels(np.full((1, 1), (level + 0.4) / 255 if level < 255 else 1.0)).item() == level
    assert pixels(np.full((1, 1), (level - 0.4) / 255 if level else 0.0, np.float32)).item() == level


def test_the_name_is_the_one_that_was_given_else_that_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "seven.png"
    path.write_bytes(seven())
    with path.open("rb") as file, os.fdopen(os.open(path, os.O_RDONLY), "rb") as nameless:
        assert name_and_data(file) == ("seven.png", seven())
        assert name_and_data(nameless) == ("", seven())
    assert name_and_data(path) == name_and_data(str(path)) == ("seven.png", seven())
    assert name_and_data(path, "other.png")[0] == name_and_data(("other.png", path))[0] == "other.png"
    with path.open("rb") as file:
        assert name_and_data(file, "other.png")[0] == "other.png"
    assert name_and_data(bytearray(b"x"), "a") == name_and_data(memoryview(b"x"), "a") == ("a", b"x")


def test_a_batch_is_the_bytes_of_a_file_its_path_or_pictures() -> None:
    assert batch_file(bytearray(b"PK")) == batch_file(memoryview(b"PK")) == batch_file(BytesIO(b"PK")) == b"PK"
    assert batch_file("a.zip") == batch_file(Path("a.zip")) == Path("a.zip")
    assert list(batch_file([b"1", ("b.png", b"2")])) == [("", b"1"), ("b.png", b"2")]  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="read as str"):
        batch_file(StringIO("PK"))  # type: ignore[arg-type]
