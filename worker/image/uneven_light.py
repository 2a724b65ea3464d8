"""Separates ink from paper by their local contrast, for pictures in which some paper is darker than some ink."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageFilter

from worker.image.arrays import Floats32, Grey, Signed

#: Things wider than this share of the picture's longer side are background and no strokes.
WIDEST = 0.25
#: Edges fainter than this share of the strongest ones are ignored when the threshold is chosen.
FAINT_EDGE = 0.4
#: Ink differs from its background by at least this many grey levels.
LEAST_RISE = 5


class FlatPicture(NamedTuple):
    """A picture on an even background."""

    bright: Grey  # uint8 [H, W], ink brighter than the background, which is near 0
    rise: Signed  # int16 [H, W], the same without the finest grain
    threshold: int  # ink has a higher `rise`: the level of the edges
    inverted: bool  # the ink was darker than its surroundings


def flatten_light(grey: Grey) -> FlatPicture:
    """Subtract the background, the grey opening by a square, from uint8 [H, W].

    Dark ink absorbs a share of the light, however strong that is: its level is that share, in 255ths. Bright ink's
    level is the light that it adds.
    """
    soft = np.asarray(Image.fromarray(grey).filter(ImageFilter.BoxBlur(1)), np.int16)
    inverted = _ink_is_dark(soft)
    ground = _opened(255 - soft if inverted else soft, max(3, int(WIDEST * max(grey.shape)) | 1))
    share = 255 / np.maximum(255 - ground, 1) if inverted else 1.0
    soft_rise, rise = (((255 - one if inverted else one) - ground) * share for one in (soft, grey.astype(np.int16)))
    levels: Signed = soft_rise.clip(0, 255).astype(np.int16)
    return FlatPicture(rise.clip(0, 255).astype(np.uint8), levels, max(_edge_level(levels), LEAST_RISE), inverted)


def _ink_is_dark(soft: Signed) -> bool:
    """Tell whether the differences from the local median are skewed towards dark: their third moment is negative."""
    height, width = soft.shape
    small = Image.fromarray(soft.astype(np.uint8)).reduce(max(1, max(height, width) // 32))
    image = small.filter(ImageFilter.MedianFilter(9)).resize((width, height), Image.Resampling.BILINEAR)
    ground: Floats32 = np.asarray(image).astype(np.float32)
    difference = soft - ground
    difference -= np.median(difference)
    return bool((difference**3).sum() < 0)


def _edge_level(rise: Signed) -> int:
    """Return the mean level of the pixels weighted by their gradient, over the strong gradients only.

    J. Kittler, J. Illingworth, J. Foglein, Threshold selection based on a simple image statistic, CVGIP 30, 1985,
    125-147.
    """
    down, across = np.abs(np.diff(rise, axis=0))[:, :-1], np.abs(np.diff(rise, axis=1))[:-1]
    edges = np.maximum(down, across).astype(np.float32)
    strongest = np.sort(edges, axis=None)[-max(20, edges.size // 500) :].mean()
    edges[edges <= FAINT_EDGE * strongest] = 0
    return int((edges * rise[:-1, :-1]).sum() / max(float(edges.sum()), 1e-6))


def _opened(levels: Signed, side: int) -> Signed:
    """Open the levels by a square of `side` x `side` pixels."""
    margin = side - 1
    if min(levels.shape) > margin:  # odd reflection continues a slope past the border
        wide = np.pad(levels, margin, "reflect", reflect_type="odd")
    else:
        wide = np.pad(levels, margin, "edge")
    for extreme in (np.minimum, np.maximum):
        for axis in (0, 1):
            wide = _running(extreme, wide, side, axis)
    return wide


def _running(extreme: Any, levels: Signed, length: int, axis: int) -> Signed:
    """Return the minimum or maximum of each `length` neighbours along the axis, by doubling."""
    lines, done = np.swapaxes(levels, 0, axis), 1
    while 2 * done <= length:
        lines, done = extreme(lines[:-done], lines[done:]), 2 * done
    if done < length:
        lines = extreme(lines[: done - length], lines[length - done :])
    return np.swapaxes(lines, 0, axis)
