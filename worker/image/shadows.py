"""Ink as what rises from its surroundings: for pictures in which some paper is darker than some ink."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from worker.image.ink import Grey

Levels = NDArray[np.int16]

#: What is wider than this part of the picture's longer side is ground and no stroke.
WIDEST = 0.25
#: Edges fainter than this part of the strongest ones say nothing of ink.
FAINT_EDGE = 0.4
#: Ink rises by so many grey levels at least.
LEAST_RISE = 5


class Risen(NamedTuple):
    """A picture on level ground."""

    bright: Grey  # uint8 [H, W], ink brighter than the ground, which is near 0
    rise: Levels  # int16 [H, W], the same without the finest grain
    threshold: int  # where the edges are: ink rises higher
    inverted: bool  # the ink was darker than its surroundings


def risen(grey: Grey) -> Risen:
    """Uint8 [H, W] -> what rises from its ground, the grey opening by a square.

    Dark ink lets a part of the light through, much or little: it rises by the part that it keeps back, in 255ths.
    Bright ink rises by what it adds.
    """
    soft = np.asarray(Image.fromarray(grey).filter(ImageFilter.BoxBlur(1)), np.int16)
    inverted = _dips(soft)
    ground = _opened(255 - soft if inverted else soft, max(3, int(WIDEST * max(grey.shape)) | 1))
    share = 255 / np.maximum(255 - ground, 1) if inverted else 1.0
    soft_rise, rise = (((255 - one if inverted else one) - ground) * share for one in (soft, grey.astype(np.int16)))
    levels: Levels = soft_rise.clip(0, 255).astype(np.int16)
    return Risen(rise.clip(0, 255).astype(np.uint8), levels, max(_edge_level(levels), LEAST_RISE), inverted)


def _dips(soft: Levels) -> bool:
    """Whether what stands out from the local median is rather darker: the third moment of the difference."""
    height, width = soft.shape
    small = Image.fromarray(soft.astype(np.uint8)).reduce(max(1, max(height, width) // 32))
    image = small.filter(ImageFilter.MedianFilter(9)).resize((width, height), Image.Resampling.BILINEAR)
    ground: NDArray[np.float32] = np.asarray(image).astype(np.float32)
    difference = soft - ground
    difference -= np.median(difference)
    return bool((difference**3).sum() < 0)


def _edge_level(rise: Levels) -> int:
    """The mean level of pixels weighed with their gradient (J. Kittler, J. Illingworth, J. Foglein, Threshold selection
    based on a simple image statistic, CVGIP 30, 1985, 125-147), of the strong gradients only.
    """
    down, across = np.abs(np.diff(rise, axis=0))[:, :-1], np.abs(np.diff(rise, axis=1))[:-1]
    edges = np.maximum(down, across).astype(np.float32)
    strongest = np.sort(edges, axis=None)[-max(20, edges.size // 500) :].mean()
    edges[edges <= FAINT_EDGE * strongest] = 0
    return int((edges * rise[:-1, :-1]).sum() / max(float(edges.sum()), 1e-6))


def _opened(levels: Levels, side: int) -> Levels:
    """The grey opening by a square of so many pixels. Odd reflection continues a slope past the border."""
    margin = side - 1
    if min(levels.shape) > margin:
        wide = np.pad(levels, margin, "reflect", reflect_type="odd")
    else:
        wide = np.pad(levels, margin, "edge")
    for extreme in (np.minimum, np.maximum):
        for axis in (0, 1):
            wide = _running(extreme, wide, side, axis)
    return wide


def _running(extreme: Any, levels: Levels, length: int, axis: int) -> Levels:
    """The extreme of each `length` neighbours along the axis, by doubling."""
    lines, done = np.swapaxes(levels, 0, axis), 1
    while 2 * done <= length:
        lines, done = extreme(lines[:-done], lines[done:]), 2 * done
    if done < length:
        lines = extreme(lines[: done - length], lines[length - done :])
    return np.swapaxes(lines, 0, axis)
