"""Tells the ink of a page from its paper: polarity, uneven light, local threshold."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from worker.image.arrays import Grey, Mask
from worker.page.opencv import opencv

#: Background and polarity are found on a copy of this longer side, in pixels.
COPY_SIDE = 400
#: Things wider than this share of the longer side are background at first; with strokes wider than a third of that
#: window, it is made WIDER times as wide, or it would hollow them out.
WINDOW, WIDER = 1 / 14, 4
#: The window has at least this many pixels: small pictures show large digits.
LEAST_WINDOW = 28
#: Ink is darker than its background by at least this many 255ths of the light, and by NOISE times the grain.
LEAST_LEVEL, NOISE = 12, 5.0
#: The grain is measured at these distances in pixels: enlarged or compressed, it is coarse.
GRAIN = (1, 4)
#: A pixel is ink from this share of the strongest ink around it, and from FAINT of the typical ink of the page.
SHARE, FAINT = 0.4, 0.4
#: Only edges above this share of the strongest ones show how dark ink is.
CLEAR_EDGE = 0.4


class Ink(NamedTuple):
    """The ink of a page."""

    #: uint8 [H, W]: the share of the light that the ink takes, in 255ths; 0 is paper.
    level: Grey
    mask: Mask
    #: The mean width of the strokes in pixels; 0 without ink.
    stroke: float
    #: bool [H, W]: the same with what is faint beside dark ink, such as ruling.
    faint: Mask


def find_ink(grey: Grey) -> Ink:
    """Separate ink from paper in uint8 [H, W]; the ink may be darker or brighter than the paper.

    The background is the grey closing, which removes strokes but follows shadows. The threshold is local: half way
    between the paper and the darkest ink within about two strokes.
    """
    cv = opencv()
    soft = cv.blur(grey, (3, 3)) if max(grey.shape) > COPY_SIDE else grey
    if not ink_is_dark(soft):
        grey, soft = 255 - grey, 255 - soft
    window = max(WINDOW, LEAST_WINDOW / max(grey.shape))
    level = _level(soft, window)
    faint, mask, stroke = _threshold(level)
    if 3 * stroke > window * max(grey.shape):
        level = _level(soft, WIDER * window)
        faint, mask, stroke = _threshold(level)
    return Ink(level, mask, stroke, faint)


def ink_is_dark(grey: Grey) -> bool:
    """Tell whether differences from the local median are skewed towards dark: ink is the smaller part of a page."""
    cv = opencv()
    small = reduced(grey, 2 * COPY_SIDE)
    size = max(1, round(small.shape[1] / max(small.shape) * 48)), max(1, round(small.shape[0] / max(small.shape) * 48))
    coarse = cv.medianBlur(cv.resize(small, size, interpolation=cv.INTER_AREA), 15)
    ground = cv.resize(coarse, small.shape[::-1], interpolation=cv.INTER_LINEAR)
    difference = small.astype(np.float32) - ground
    difference -= np.median(difference)
    return bool((difference * difference * difference).sum() <= 0)  # NumPy's power takes ten times as long


def reduced(grey: Grey, side: int) -> Grey:
    """Reduce the picture to at most this longer side."""
    cv = opencv()
    scale = side / max(grey.shape)
    if scale >= 1:
        return grey
    size = max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale))
    found: Grey = cv.resize(grey, size, interpolation=cv.INTER_AREA)
    return found


def stroke_width(mask: Mask) -> float:
    """Return the mean width of all strokes in pixels: twice their area over their perimeter; 0 without ink.

    The sum of steps along rows and columns overstates a perimeter by 4/pi on average.
    """
    area = np.count_nonzero(mask)
    steps = np.count_nonzero(mask[1:] != mask[:-1]) + np.count_nonzero(mask[:, 1:] != mask[:, :-1])
    return 2 * area / (steps * np.pi / 4) if steps else 0.0


def _level(soft: Grey, window: float) -> Grey:
    """Return the share of the light of the background that is missing, in 255ths; dark ink."""
    cv = opencv()
    small = reduced(soft, COPY_SIDE)
    side = max(3, round(window * max(small.shape))) | 1
    ground = cv.morphologyEx(small, cv.MORPH_CLOSE, np.ones((side, side), np.uint8), borderType=cv.BORDER_REPLICATE)
    ground = cv.blur(ground, (5, 5))
    ground = cv.resize(ground, soft.shape[::-1], interpolation=cv.INTER_LINEAR)
    found: Grey = 255 - cv.divide(soft, cv.max(ground, 1), scale=255)
    return found


def _threshold(level: Grey) -> tuple[Mask, Mask, float]:
    """Return the ink with what is faint, the ink, and the mean width of its strokes."""
    cv = opencv()
    least = max(LEAST_LEVEL, NOISE * _grain(level), FAINT * _edge_level(level))
    rough = level > least
    stroke = stroke_width(rough)
    if not stroke:
        return rough, rough, 0.0
    side = 2 * round(min(2 * stroke, 40)) + 1
    strongest = cv.dilate(cv.blur(level, (3, 3)), np.ones((side, side), np.uint8))
    mask: Mask = rough & (level > cv.multiply(strongest, SHARE))
    return rough, mask, stroke_width(mask)


def _grain(level: Grey) -> float:
    """Return the standard deviation of the paper's grain: by the median of second differences along some rows."""
    rows, most = level[:: max(1, level.shape[0] // 100)].astype(np.int16), 0.0
    for step in GRAIN:
        second = np.abs(2 * rows[:, step:-step] - rows[:, : -2 * step] - rows[:, 2 * step :])
        most = max(most, float(np.median(second)) if second.size else 0.0)
    return most / 0.6745 / 6**0.5


def _edge_level(level: Grey) -> float:
    """Return the mean level at strong edges: half the level of typical ink.

    J. Kittler, J. Illingworth, J. Foglein, Threshold selection based on a simple image statistic, CVGIP 30, 1985,
    125-147.
    """
    cv = opencv()
    step = max(1, max(level.shape) // 1200)
    some = np.ascontiguousarray(level[::step, ::step])
    down, across = cv.absdiff(some[1:, 1:], some[:-1, 1:]), cv.absdiff(some[1:, 1:], some[1:, :-1])
    edges = cv.max(down, across)
    counts = cv.calcHist([edges], [0], None, [256], [0, 256]).ravel()
    above = counts[::-1].cumsum()[::-1]
    strongest = int(np.flatnonzero(above >= max(20, edges.size // 500))[-1]) if edges.size >= 20 else 255
    clear = edges > CLEAR_EDGE * strongest
    return float(np.average(some[1:, 1:][clear], weights=edges[clear])) if clear.any() else 0.0
