"""Scales grey levels of 10, 12, 16 or 32 bits, or floats, to the 8 bits that the preprocessing works on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from worker.image.arrays import Grey

#: Rows scaled at a time: float64 copies of a whole picture would take a gigabyte.
BAND_ROWS = 64


def to_8_bit(levels: NDArray[np.generic]) -> Grey:
    """Scale `levels` [H, W] of any numeric dtype to uint8 [H, W], white to 255.

    White is 1 for floats in [0, 1], else the largest value of the fewest bits (at least 8) that hold the picture: a
    TIFF may keep 10 or 12 bits in 16. Negative and non-finite levels become black.
    """
    bands = [levels[at : at + BAND_ROWS] for at in range(0, len(levels), BAND_ROWS)]
    top = max(_finite(band).max() for band in bands)
    white = 1.0 if levels.dtype.kind == "f" and top <= 1 else 2.0 ** max(8, int(top).bit_length()) - 1
    grey = np.empty(levels.shape, np.uint8)
    for at, band in enumerate(bands):
        grey[at * BAND_ROWS : (at + 1) * BAND_ROWS] = np.rint(_finite(band) * (255 / white)).clip(0, 255)
    return grey


def _finite(levels: NDArray[np.generic]) -> NDArray[np.float64]:
    return np.nan_to_num(levels.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0).clip(0)
