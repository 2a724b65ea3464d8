"""Limits are told as people read them."""

from __future__ import annotations

import pytest

from producer.uploads.admission import admit
from producer.uploads.files import batch_too_large
from shared.amounts import in_bytes, in_pixels
from shared.errors import TooLarge, TooManyPixels
from shared.settings import Settings
from tests.pictures import png_header


def test_amounts_have_a_unit_that_fits() -> None:
    assert [in_bytes(n) for n in (1000, 10 * 1024**2, 1536 * 1024)] == ["1,000 bytes", "10 MB", "1.5 MB"]
    assert [in_pixels(n) for n in (784, 50_000_000, 81_000_000)] == ["784 pixels", "50 megapixels", "81 megapixels"]


def test_refusals_say_what_is_allowed() -> None:
    with pytest.raises(TooManyPixels, match=r"^9000 x 9000 are 81 megapixels, the limit is 50 megapixels$"):
        admit(png_header(9000, 9000), Settings())
    with pytest.raises(TooLarge, match=r"^The file exceeds the limit of 10 MB$"):
        admit(bytes(10 * 1024**2 + 1), Settings())
    assert str(batch_too_large(Settings())) == "The batch exceeds the limit of 256 MB, as uploaded or as unpacked"
