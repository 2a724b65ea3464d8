"""What lies beneath the transparent parts of a picture: paper on which its ink can be read."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops

from worker.image.parts import Mask, grown

#: The ground is chosen on a copy about as large as this, in pixels.
LOOK_SIDE = 256
#: The border of what is shown, where antialiasing and thin outlines are: so many pixels deep.
RIM = 3
#: Levels further apart than this are ink and paper, and no grain ...
APART = 48
#: ... paper has nearly one level along its border, over this part of it ...
ALIKE = 0.8
#: ... and ink on it takes up this part of what is shown, at least.
LEAST_INK = 0.01
#: What lies deeper than the border is at least this part of a sheet, and less of a stroke.
LEAST_DEEP = 0.25

Levels = NDArray[np.float32]


def on_ground(grey: Image.Image, alpha: Image.Image) -> Image.Image:
    """Two "L", the second how opaque the first is, somewhere at least -> "L" on the ground that it asks for."""
    return Image.composite(grey, Image.new("L", grey.size, _ground(*_small(grey, alpha))), alpha)


def _small(grey: Image.Image, alpha: Image.Image) -> tuple[Levels, Mask]:
    """Levels float32 [h, w], without those hidden by transparency, and what is shown, bool [h, w]."""
    factor = max(1, max(grey.size) // LOOK_SIDE)
    lit = ImageChops.multiply(grey, alpha)
    weighed, opacity = (np.asarray(one.reduce(factor) if factor > 1 else one, np.float32) for one in (lit, alpha))
    levels: Levels = np.divide(255 * weighed, np.maximum(opacity, 1), dtype=np.float32)
    return levels, 2 * opacity >= opacity.max()


def _ground(levels: Levels, shown: Mask) -> int:
    """The level of the ground: of the paper that what is shown has along its border, ink within it.

    Where there is none it is ink alone: on the side to which its edges tend, if clearly, which were drawn on white or
    black once; else white, and black for light ink.
    """
    within = _eroded(shown, 1)
    inner = _eroded(shown, RIM)
    edge = _median(levels[shown & ~within], levels[shown])
    border, deep = levels[inner & ~_eroded(inner, 1)], levels[_eroded(inner, 1)]
    if border.size and deep.size >= LEAST_DEEP * np.count_nonzero(shown):
        paper = float(np.median(border))
        ink = deep[np.abs(deep - paper) > APART]
        alike = np.count_nonzero(np.abs(border - paper) <= APART / 2)
        if ink.size >= LEAST_INK * np.count_nonzero(shown) and alike >= ALIKE * border.size:
            if ink.mean() < paper:
                return round(max(paper, edge))
            if edge <= paper + APART:  # else dark ink of light edges, with a gap that antialiasing has closed
                return round(min(paper, edge))
    core = _median(levels[inner], levels[within], levels[shown])
    if abs(edge - core) <= APART / 2:
        return 255 if core < 128 else 0
    return 0 if edge < core and core >= 128 else 255


def _eroded(mask: Mask, steps: int) -> Mask:
    """The mask less what is so near to what is not in it; the border of the picture is no end of it."""
    outside = ~mask
    for _ in range(steps):
        outside = grown(outside)
    return ~outside


def _median(*choices: Levels) -> float:
    """Of the first that is not empty."""
    return float(np.median(next(levels for levels in choices if levels.size)))
