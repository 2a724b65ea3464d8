"""The pictures for every server: the model's golden digits, white on black, centred."""

from __future__ import annotations

import struct
from functools import cache
from io import BytesIO
from itertools import cycle, islice

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shared.settings import SHIPPED_MODEL
from worker.inference.golden import FILE

#: Bytes of a usual MNIST digit as PNG; the recorded one that comes closest is *the* picture.
USUAL_BYTES = 254


@cache
def recorded() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the golden digits uint8 [n, 28, 28] and the model's results int [n]."""
    with np.load(SHIPPED_MODEL / FILE) as golden:
        return golden["images"], golden["probabilities"].argmax(axis=1)


def png(pixels: NDArray[np.uint8]) -> bytes:
    """Encode uint8 [28, 28] as an 8-bit grey PNG."""
    out = BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def picture() -> tuple[bytes, int]:
    """Return the standard picture, a PNG of about 254 bytes, and its digit."""
    images, digits = recorded()
    files = [png(image) for image in images]
    chosen = min(range(len(files)), key=lambda one: abs(len(files[one]) - USUAL_BYTES))
    return files[chosen], int(digits[chosen])


def pngs(count: int) -> list[bytes]:
    """Return `count` PNG files, repeating the golden digits."""
    return list(islice(cycle([png(image) for image in recorded()[0]]), count))


def idx(count: int) -> bytes:
    """Return `count` digits as an IDX file like MNIST's, 784 bytes each."""
    images = recorded()[0]
    tiled = images[np.arange(count) % len(images)]
    return struct.pack(">BBBBIII", 0, 0, 8, 3, count, 28, 28) + tiled.tobytes()
