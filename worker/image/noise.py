"""Smooths noisy pictures."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

from worker.image.arrays import Grey

#: In smaller pictures a stroke may be a single pixel: they are never smoothed.
LEAST_SIDE = 48
#: A picture is noisy if this share of its pixels differs from all four neighbours by more than ALONE grey levels.
NOISY, ALONE = 0.01, 24


def denoise(grey: Grey) -> tuple[Grey, bool]:
    """Smooth uint8 [H, W] if it is noisy; return it, and whether it was."""
    if min(grey.shape) < LEAST_SIDE:
        return grey, False
    levels = grey.astype(np.int16)
    middle = levels[1:-1:3, 1:-1]  # a third of the rows is enough to tell
    count = len(middle)
    around = levels[:-2:3, 1:-1], levels[2::3, 1:-1][:count], levels[1:-1:3, :-2], levels[1:-1:3, 2:]
    high, low = np.maximum.reduce(around), np.minimum.reduce(around)
    share = np.count_nonzero((middle > high + ALONE) | (middle < low - ALONE)) / middle.size
    if share < NOISY:
        return grey, False
    image = Image.fromarray(grey).filter(ImageFilter.MedianFilter(3))
    if share > 4 * NOISY:
        image = image.filter(ImageFilter.GaussianBlur(1.2))
    return np.asarray(image), True
