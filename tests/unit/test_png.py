"""The short way to read the usual picture gives what the long one gives, or leaves the picture to it."""

from __future__ import annotations

import random
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from benchmarks.picture import pngs
from worker.decoding.decode import decode
from worker.decoding.fast_png import decode_plain_pngs

PICTURES = pngs(40)


def test_the_usual_pictures_are_read_as_by_decode() -> None:
    positions, greys = decode_plain_pngs([b"", *PICTURES, b"BM"])
    assert positions == list(range(1, 41))
    assert np.array_equal(greys, [decode(one, max_pixels=784) for one in PICTURES])


@pytest.mark.parametrize("trouble", ["cut", "bit", "longer"])
def test_whatever_is_damaged_is_left_to_decode(trouble: str) -> None:
    chance = random.Random(trouble)
    for one in PICTURES:
        at = chance.randrange(len(one))
        damaged = {
            "cut": one[:at],
            "bit": one[:at] + bytes([one[at] ^ 1 << chance.randrange(8)]) + one[at + 1 :],
            "longer": one[:at] + b"\0" + one[at:],
        }[trouble]
        assert decode_plain_pngs([damaged])[0] == []


def test_what_has_more_to_say_is_left_to_decode() -> None:
    image = Image.open(BytesIO(PICTURES[0]))
    notes, exif = PngImagePlugin.PngInfo(), Image.Exif()
    notes.add_text("Comment", "hello")
    exif[0x0112] = 6  # lying on its side
    for words in ({"pnginfo": notes}, {"exif": exif}, {"transparency": 0}):
        out = BytesIO()
        image.save(out, "PNG", **words)  # type: ignore[arg-type]
        assert decode_plain_pngs([out.getvalue()])[0] == []
    assert decode_plain_pngs([])[1].shape == (0, 28, 28)
