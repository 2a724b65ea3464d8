"""Small files that would take much work are refused with a named error; headers are read as Pillow reads them."""

from __future__ import annotations

from io import BytesIO

import pytest
from PIL import Image

from producer.uploads import headers
from producer.uploads.admission import admit, image_format
from shared.errors import DigitqError, TooManyPixels, UndecodableImage
from shared.settings import Settings
from tests.hostile.bombs import (
    fax_of_bad_rows,
    gif_with_a_frame_beyond_its_screen,
    jpeg_with_scans,
    jpeg_with_segments,
    tiff_with_a_tile,
)
from tests.hostile.seeds import seeds
from worker.decoding.decode import decode

SETTINGS = Settings()


def test_the_size_in_the_head_is_what_pillow_finds() -> None:
    for name, data in seeds().items():
        assert decode(data, max_pixels=10**6).size, name
        with Image.open(BytesIO(data)) as image:
            format, media = image_format(data)
            assert admit(data, SETTINGS) == media, name
            announced = headers.size(data, format)
            if format == "HEIC":  # as it is coded: whole blocks, not yet turned
                assert max(announced) >= max(image.size) and min(announced) >= min(image.size), name
            else:
                assert announced == image.size, name


def test_a_head_that_is_cut_is_a_named_error() -> None:
    for name, data in seeds().items():
        whole = admit(data, SETTINGS)
        for end in range(0, 64, 3):
            try:
                found = admit(data[:end], SETTINGS)
            except DigitqError:
                continue
            assert end >= 10 and found == whole, name  # no head is shorter


@pytest.mark.parametrize(
    ("bomb", "error"),
    [
        (gif_with_a_frame_beyond_its_screen(65_535), TooManyPixels),
        (tiff_with_a_tile(9_000), TooManyPixels),
        (jpeg_with_scans(7_000, 7_000, 8_000), UndecodableImage),
    ],
    ids=["gif frame", "tiff tile", "jpeg scans"],
)
def test_more_work_than_pixels_is_refused(bomb: bytes, error: type[DigitqError]) -> None:
    admit(bomb, SETTINGS)  # its head says nothing of it
    with pytest.raises(error):
        decode(bomb, max_pixels=SETTINGS.max_pixels)


def test_a_header_without_end_is_refused_at_upload() -> None:
    with pytest.raises(UndecodableImage):
        admit(jpeg_with_segments(0xE1, 20_000), SETTINGS)


def test_a_damaged_picture_does_not_fill_the_log(capfd: pytest.CaptureFixture[str]) -> None:
    assert decode(fax_of_bad_rows(1000), max_pixels=SETTINGS.max_pixels).shape == (1000, 8)
    assert capfd.readouterr().err == ""
