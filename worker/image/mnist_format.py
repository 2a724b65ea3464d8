"""Brings ink to the format of MNIST's digits: scale, place, brightness and stroke width."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from worker.image.arrays import Floats32, Grey, Mask, longer_side, spans
from worker.image.components import grown

#: Sides, in pixels, of the model's input and of the box that a digit fits.
SIDE, BOX = 28, 20
#: The centre of mass of MNIST's digits, measured on its test set: the middle of pixel 14, counted from 0.
CENTRE = 14.5
#: Strokes thinner than this, in pixels of the 28x28, are thickened: fewer than 2 % of MNIST's test digits have such.
MIN_STROKE = 1.6
#: A stroke thinner than this, where the digit's longer side is 20 pixels, is a hairline: under 1/25 of the digit.
HAIRLINE = 0.8


def ink_levels(bright: Grey, mask: Mask, paper: int) -> Floats32:
    """Scale grey levels to ink in [0, 1]: 0 at the level `paper`, 1 at the median of the mask, as in MNIST.

    All are uint8 or bool [H, W]. Ink further than one pixel from the mask is 0; within that lies its soft edge.
    """
    full = int(np.sort(bright[mask])[np.count_nonzero(mask) // 2])
    ink = (bright - np.float32(paper)) / np.float32(full - paper)
    return np.where(grown(mask), ink, np.float32(0)).clip(0, 1)


def place(ink: Floats32, mask: Mask) -> Floats32:
    """Scale the digit in `mask` to fit a 20x20 box and centre its mass in 28x28; only cut it if it has that scale.

    `ink` is float32 [H, W] in [0, 1]; returns float32 [28, 28]. Where most ink is at one end, the other would fall
    outside: the window moves until it holds the whole digit.
    """
    rows, columns = spans(mask)
    scale = max(rows[1] - rows[0], columns[1] - columns[0]) / BOX
    if 0.95 <= scale <= 1.05:  # resampling would only blur
        scale = 1.0
    margin = math.ceil(CENTRE * scale) + 1
    framed = _framed(ink, margin)
    top, left = (
        margin + min(max(centre_of_mass(profile) - CENTRE * scale, last - SIDE * scale), first)
        for profile, (first, last) in ((ink.sum(axis=1), rows), (ink.sum(axis=0), columns))
    )
    if scale == 1:
        row, column = math.floor(top + 0.5), math.floor(left + 0.5)
        return framed[row : row + SIDE, column : column + SIDE]
    box = (left, top, left + SIDE * scale, top + SIDE * scale)
    image = Image.fromarray(framed).resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=box)
    return np.asarray(image).clip(0, 1)


def normalise_strokes(pixels: Floats32) -> tuple[Floats32, bool]:
    """Make strokes float32 [28, 28] as bright as MNIST's, and thin ones thicker; return them, and whether thickened."""
    used = np.sort(pixels[pixels > 0.25 * pixels.max()])
    framed = _framed(pixels / used[len(used) * 9 // 10], 1).clip(0, 1)
    pixels = framed[1:-1, 1:-1]
    steps = np.abs(framed[1:] - framed[:-1]).sum() + np.abs(framed[:, 1:] - framed[:, :-1]).sum()
    missing = MIN_STROKE - _stroke_width(float(pixels.sum()), float(steps))
    if missing <= 0:
        return pixels, False
    neighbours = np.maximum.reduce([framed[:-2, 1:-1], framed[2:, 1:-1], framed[1:-1, :-2], framed[1:-1, 2:]])
    thicker: Floats32 = np.maximum(pixels, np.float32(min(missing, 1)) * neighbours)
    return thicker, True


def relative_stroke_width(mask: Mask) -> float:
    """Return the mean width of the strokes in `mask`, in pixels, as if their longer side were 20 pixels."""
    padded = np.pad(mask, 1)
    steps = np.count_nonzero(padded[1:] != padded[:-1]) + np.count_nonzero(padded[:, 1:] != padded[:, :-1])
    return BOX * _stroke_width(int(np.count_nonzero(mask)), int(steps)) / longer_side(mask)


def centre_of_mass(profile: NDArray[Any]) -> float:
    """Return the centre of mass of a profile [n], in pixels from the outer edge of the first one."""
    return float(profile @ np.arange(0.5, len(profile))) / float(profile.sum())


def _stroke_width(area: float, steps: float) -> float:
    """Return 2 area / perimeter. The sum of steps along rows and columns overstates a perimeter by 4/pi on average."""
    return 2 * area / (steps * math.pi / 4)


def _framed(pixels: Floats32, margin: int) -> Floats32:
    """Pad with zeros; np.pad takes ten times as long."""
    framed = np.zeros((pixels.shape[0] + 2 * margin, pixels.shape[1] + 2 * margin), np.float32)
    framed[margin:-margin, margin:-margin] = pixels
    return framed
