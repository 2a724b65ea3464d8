"""A picture -> the 28x28 that the model saw in training. Pure functions; serving and training share them.

MNIST's digits are white on black, scaled to fit a 20x20 box and placed by their centre of mass in 28x28
(http://yann.lecun.com/exdb/mnist/). `normalise` brings a picture of one digit there:
reduce -> polarity and background -> threshold -> the digit's parts -> crop, scale, place -> ink like MNIST's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from worker.decode import decode
from worker.ink import Grey, Mask, bright_ink, digit, grown, otsu

PREPROCESSING_VERSION = "mnist-1"

Pixels = NDArray[np.float32]

SIDE, BOX = 28, 20
#: Where MNIST's centres of mass lie, measured on its test digits: the middle of pixel 14, counted from 0.
CENTRE = 14.5
#: Pictures are averaged down to this: a digit a fifteenth as high still has more than the 20 pixels that it ends in.
WORK_SIDE = 320
#: Background and ink nearer than this, in grey levels, hold no ink; nearer than the second, faint ink.
MIN_CONTRAST, LOW_CONTRAST = 10, 48
#: The same in standard deviations: cut in the middle, normal noise makes classes 2.65 apart and an even slope 3.46.
MIN_DISTANCE = 3.6
#: Thinner strokes, in pixels of the 28x28, are thickened: fewer than 2 % of MNIST's test digits have such.
MIN_STROKE = 1.6

_MIDDLES = np.arange(0.5, WORK_SIDE)


class Seen(NamedTuple):
    """What the model gets to see."""

    #: float32 [28, 28] in [0, 1], ink bright on 0.
    pixels: Pixels
    #: Of `inverted` (the ink was darker than its background), `low_contrast`, `touches_border`, `no_ink`.
    warnings: tuple[str, ...]


def preprocess(data: bytes, *, max_pixels: int, method: str = "mnist") -> Seen:
    """Bytes of a picture -> `Seen`, by `normalise` ("mnist") or `seed` ("seed"); another method is a KeyError.

    Raises `TooManyPixels` and `UndecodableImage`, as `decode` does.
    """
    return {"mnist": normalise, "seed": seed}[method](decode(data, max_pixels=max_pixels))


def seed(grey: Grey) -> Seen:
    """The recipe that this project began with, for comparison: squeeze to 28x28, invert, black or white at level 50."""
    small = np.asarray(Image.fromarray(grey).resize((SIDE, SIDE), Image.Resampling.LANCZOS))
    pixels = (255 - small > 50).astype(np.float32)
    return Seen(pixels, () if pixels.any() else ("no_ink",))


def _unwatched(stage: str, levels: NDArray[Any]) -> None: ...


def normalise(grey: Grey, watch: Callable[[str, NDArray[Any]], None] = _unwatched) -> Seen:
    """Uint8 [H, W], ink darker or brighter than its background -> `Seen` as in MNIST; all 0, `no_ink`, if blank.

    `watch` is shown what there is on the way: "bright" uint8 [h, w], "mask" bool [h, w], "ink" float32 [h, w].
    """
    bright, inverted = bright_ink(_reduced(grey))
    watch("bright", bright)
    if _is_like_mnist(bright):
        return Seen(np.divide(bright, 255, dtype=np.float32), ("inverted",) * inverted)
    split = otsu(bright)
    drawn = split.contrast >= MIN_CONTRAST and split.distance >= MIN_DISTANCE
    mask = digit(bright > split.threshold) if drawn else np.zeros((1, 1), np.bool_)
    watch("mask", mask)
    if not mask.any():
        return Seen(np.zeros((SIDE, SIDE), np.float32), ("no_ink",))
    warnings = {
        "inverted": inverted,
        "low_contrast": split.contrast < LOW_CONTRAST,
        "touches_border": mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any(),
    }
    ink = _ink(bright, mask, split.paper)
    watch("ink", ink)
    return Seen(_inked(_placed(ink, mask)), tuple(name for name, holds in warnings.items() if holds))


def _reduced(grey: Grey) -> Grey:
    factor = -(-max(grey.shape) // WORK_SIDE)
    return np.asarray(Image.fromarray(grey).reduce(factor)) if factor > 1 else grey


def _is_like_mnist(bright: Grey) -> bool:
    """Whether this is already ink in a 20x20 box, in its place on pure black: such a digit passes unchanged."""
    if bright.shape != (SIDE, SIDE) or bright.max() < 200:
        return False
    rows, columns = bright.sum(axis=1), bright.sum(axis=0)
    centred = abs(_centre(rows) - CENTRE) <= 1 and abs(_centre(columns) - CENTRE) <= 1
    return centred and BOX - 1 <= max(_length(rows), _length(columns)) <= BOX


def _centre(profile: NDArray[Any]) -> float:
    """The centre of mass, in pixels from the outer edge of the first one."""
    return float(profile @ _MIDDLES[: len(profile)]) / float(profile.sum())


def _length(profile: NDArray[Any]) -> int:
    used = np.flatnonzero(profile)
    return int(used[-1] - used[0]) + 1


def _ink(bright: Grey, mask: Mask, paper: int) -> Pixels:
    """Levels -> ink in [0, 1]: 0 on paper and off the mask (a pixel of soft edge stays), 1 for half, as in MNIST."""
    full = int(np.sort(bright[mask])[np.count_nonzero(mask) // 2])
    ink = (bright - np.float32(paper)) / np.float32(full - paper)
    return np.where(grown(mask), ink, np.float32(0)).clip(0, 1)


def _placed(ink: Pixels, mask: Mask) -> Pixels:
    """At 28x28 a window 28/20 of the digit's longer side, around its centre of mass; if that is its scale, only cut."""
    scale = max(_length(np.logical_or.reduce(mask, axis=1)), _length(np.logical_or.reduce(mask, axis=0))) / BOX
    y, x = _centre(ink.sum(axis=1)), _centre(ink.sum(axis=0))
    margin = math.ceil(CENTRE * scale)
    if 0.95 <= scale <= 1.05:  # resampling would only blur
        row, column = int(y) + margin - int(CENTRE), int(x) + margin - int(CENTRE)
        return _framed(ink, margin)[row : row + SIDE, column : column + SIDE]
    top, left = y + margin - CENTRE * scale, x + margin - CENTRE * scale
    box = (left, top, left + SIDE * scale, top + SIDE * scale)
    image = Image.fromarray(_framed(ink, margin)).resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=box)
    return np.asarray(image).clip(0, 1)


def _inked(pixels: Pixels) -> Pixels:
    """Strokes as bright as MNIST's and, where they are thinner than nearly all of MNIST's, thicker."""
    used = np.sort(pixels[pixels > 0.25 * pixels.max()])
    framed = _framed(pixels / used[len(used) * 9 // 10], 1).clip(0, 1)
    pixels = framed[1:-1, 1:-1]
    # Width = 2 area / perimeter; the sum of steps along rows and columns overstates a perimeter by 4/pi on average.
    steps = np.abs(framed[1:] - framed[:-1]).sum() + np.abs(framed[:, 1:] - framed[:, :-1]).sum()
    missing = MIN_STROKE - 2 * float(pixels.sum()) / (float(steps) * math.pi / 4)
    if missing <= 0:
        return pixels
    neighbours = np.maximum.reduce([framed[:-2, 1:-1], framed[2:, 1:-1], framed[1:-1, :-2], framed[1:-1, 2:]])
    thicker: Pixels = np.maximum(pixels, np.float32(min(missing, 1)) * neighbours)
    return thicker


def _framed(pixels: Pixels, margin: int) -> Pixels:
    """The picture within a margin of zeros; np.pad costs ten times as much."""
    framed = np.zeros((pixels.shape[0] + 2 * margin, pixels.shape[1] + 2 * margin), np.float32)
    framed[margin:-margin, margin:-margin] = pixels
    return framed
