"""Ink at the scale, in the place and with the strokes of MNIST's digits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from worker.image.ink import Grey
from worker.image.parts import Mask, grown

Pixels = NDArray[np.float32]

SIDE, BOX = 28, 20
#: Where MNIST's centres of mass lie, measured on its test digits: the middle of pixel 14, counted from 0.
CENTRE = 14.5
#: Thinner strokes, in pixels of the 28x28, are thickened: fewer than 2 % of MNIST's test digits have such.
MIN_STROKE = 1.6
#: Where the digit's longer side is 20 pixels, strokes thinner than this were hairlines: of a pen under 1/25 of it.
HAIRLINE = 0.8


def ink_of(bright: Grey, mask: Mask, paper: int) -> Pixels:
    """Levels -> ink in [0, 1]: 0 on paper and off the mask (a pixel of soft edge stays), 1 for half, as in MNIST."""
    full = int(np.sort(bright[mask])[np.count_nonzero(mask) // 2])
    ink = (bright - np.float32(paper)) / np.float32(full - paper)
    return np.where(grown(mask), ink, np.float32(0)).clip(0, 1)


def placed(ink: Pixels, mask: Mask) -> Pixels:
    """At 28x28 a window 28/20 of the digit's longer side, around its centre of mass; if that is its scale, only cut.

    A digit with most of its ink at one end would lose the other, so the window moves until it holds all of the digit.
    """
    rows, columns = span(np.logical_or.reduce(mask, axis=1)), span(np.logical_or.reduce(mask, axis=0))
    scale = max(rows[1] - rows[0], columns[1] - columns[0]) / BOX
    if 0.95 <= scale <= 1.05:  # resampling would only blur
        scale = 1.0
    margin = math.ceil(CENTRE * scale) + 1
    framed = _framed(ink, margin)
    top, left = (
        margin + min(max(centre(profile) - CENTRE * scale, last - SIDE * scale), first)
        for profile, (first, last) in ((ink.sum(axis=1), rows), (ink.sum(axis=0), columns))
    )
    if scale == 1:
        row, column = math.floor(top + 0.5), math.floor(left + 0.5)
        return framed[row : row + SIDE, column : column + SIDE]
    box = (left, top, left + SIDE * scale, top + SIDE * scale)
    image = Image.fromarray(framed).resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=box)
    return np.asarray(image).clip(0, 1)


def inked(pixels: Pixels) -> tuple[Pixels, bool]:
    """Strokes as bright as MNIST's and, where they are thinner than nearly all of MNIST's, thicker. And whether so."""
    used = np.sort(pixels[pixels > 0.25 * pixels.max()])
    framed = _framed(pixels / used[len(used) * 9 // 10], 1).clip(0, 1)
    pixels = framed[1:-1, 1:-1]
    steps = np.abs(framed[1:] - framed[:-1]).sum() + np.abs(framed[:, 1:] - framed[:, :-1]).sum()
    missing = MIN_STROKE - _stroke(float(pixels.sum()), float(steps))
    if missing <= 0:
        return pixels, False
    neighbours = np.maximum.reduce([framed[:-2, 1:-1], framed[2:, 1:-1], framed[1:-1, :-2], framed[1:-1, 2:]])
    thicker: Pixels = np.maximum(pixels, np.float32(min(missing, 1)) * neighbours)
    return thicker, True


def width(mask: Mask) -> float:
    """Of the strokes, in pixels, where the longer side of what is drawn is 20."""
    padded = np.pad(mask, 1)
    steps = np.count_nonzero(padded[1:] != padded[:-1]) + np.count_nonzero(padded[:, 1:] != padded[:, :-1])
    used = span(np.logical_or.reduce(mask, axis=1)), span(np.logical_or.reduce(mask, axis=0))
    return BOX * _stroke(int(np.count_nonzero(mask)), int(steps)) / max(last - first for first, last in used)


def centre(profile: NDArray[Any]) -> float:
    """The centre of mass, in pixels from the outer edge of the first one."""
    return float(profile @ np.arange(0.5, len(profile))) / float(profile.sum())


def span(profile: NDArray[Any]) -> tuple[int, int]:
    """The first pixel in use and, one past it, the last."""
    used = np.flatnonzero(profile)
    return int(used[0]), int(used[-1]) + 1


def _stroke(area: float, steps: float) -> float:
    """Width = 2 area / perimeter; the sum of steps along rows and columns overstates a perimeter by 4/pi on average."""
    return 2 * area / (steps * math.pi / 4)


def _framed(pixels: Pixels, margin: int) -> Pixels:
    """The picture within a margin of zeros; np.pad costs ten times as much."""
    framed = np.zeros((pixels.shape[0] + 2 * margin, pixels.shape[1] + 2 * margin), np.float32)
    framed[margin:-margin, margin:-margin] = pixels
    return framed
