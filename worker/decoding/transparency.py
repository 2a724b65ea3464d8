"""Fills the transparent parts of a picture with a background on which its ink can be read."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageChops

from worker.image.arrays import Floats32, Mask
from worker.image.components import grown

#: The background is chosen on a copy whose longer side has about this many pixels.
SAMPLE_SIDE = 256
#: Depth of the border of the visible part, in pixels of the copy: antialiasing and thin outlines lie there.
RIM = 3
#: Grey levels further apart than this are ink and paper; less is grain.
INK_CONTRAST = 48
#: Visible paper has nearly one level along at least this share of its border ...
EVEN_BORDER = 0.8
#: ... and ink covers at least this share of the visible part.
LEAST_INK = 0.01
#: A sheet has at least this share of its pixels deeper than the border; a stroke has fewer.
LEAST_DEEP = 0.25


def flatten(grey: Image.Image, alpha: Image.Image) -> Image.Image:
    """Composite `grey` ("L") with opacity `alpha` ("L", not 0 everywhere) onto a background of one level."""
    background = _background(*_sample(grey, alpha))
    return Image.composite(grey, Image.new("L", grey.size, background), alpha)


def _sample(grey: Image.Image, alpha: Image.Image) -> tuple[Floats32, Mask]:
    """Reduce the picture: levels float32 [h, w] of the visible pixels alone, and which pixels are visible."""
    factor = max(1, max(grey.size) // SAMPLE_SIDE)
    visible = ImageChops.multiply(grey, alpha)
    weighted, opacity = (np.asarray(one.reduce(factor) if factor > 1 else one, np.float32) for one in (visible, alpha))
    levels: Floats32 = np.divide(255 * weighted, np.maximum(opacity, 1), dtype=np.float32)
    return levels, 2 * opacity >= opacity.max()


def _background(levels: Floats32, shown: Mask) -> int:
    """Choose the level of the background: the paper's, if the visible part is paper with ink on it.

    Otherwise the visible part is ink alone. If its antialiased edges clearly tend to white or black, it was once drawn
    on that; else the background is white, or black for light ink.
    """
    within, inner = _eroded(shown, 1), _eroded(shown, RIM)
    edge = _median(levels[shown & ~within], levels[shown])
    border, deep = levels[inner & ~_eroded(inner, 1)], levels[_eroded(inner, 1)]
    if border.size and deep.size >= LEAST_DEEP * np.count_nonzero(shown):
        paper = float(np.median(border))
        ink = deep[np.abs(deep - paper) > INK_CONTRAST]
        alike = np.count_nonzero(np.abs(border - paper) <= INK_CONTRAST / 2)
        if ink.size >= LEAST_INK * np.count_nonzero(shown) and alike >= EVEN_BORDER * border.size:
            if ink.mean() < paper:
                return round(max(paper, edge))
            if edge <= paper + INK_CONTRAST:  # else: dark ink with light edges, around a gap closed by antialiasing
                return round(min(paper, edge))
    core = _median(levels[inner], levels[within], levels[shown])
    if abs(edge - core) <= INK_CONTRAST / 2:
        return 255 if core < 128 else 0
    return 0 if edge < core and core >= 128 else 255


def _eroded(mask: Mask, steps: int) -> Mask:
    """Erode the mask by `steps` pixels; the border of the picture does not count as outside."""
    outside = ~mask
    for _ in range(steps):
        outside = grown(outside)
    return ~outside


def _median(*choices: Floats32) -> float:
    """Return the median of the first array that is not empty."""
    return float(np.median(next(levels for levels in choices if levels.size)))
