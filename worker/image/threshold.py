"""Separates ink from paper: polarity, uneven background, threshold."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter

from worker.image.arrays import Grey, Mask, border_of
from worker.image.components import components

#: A picture with a shorter side is too small for uneven light to show beside the digit.
LEAST_SIDE = 20
#: The background is subtracted if that moves ink and background this many times as far apart.
CLEARLY = 1.3

_LEVELS = np.arange(256.0)


class Split(NamedTuple):
    """Background and ink as two classes of grey levels, ink the brighter."""

    threshold: int  # the brightest level of the background
    paper: int  # the most frequent level of the background
    contrast: float  # between the means of the classes, in grey levels
    distance: float  # the same in standard deviations within the classes


def otsu(bright: Grey) -> Split:
    """Split grey levels where the variance between the classes is largest (N. Otsu, IEEE Trans. SMC 9, 1979, 62-66)."""
    counts = np.bincount(bright.ravel(), minlength=256)
    mass = (counts * _LEVELS).cumsum()
    dark = counts.cumsum()[:-1]
    light = bright.size - dark
    contrast = (mass[-1] - mass[:-1]) / np.maximum(light, 1) - mass[:-1] / np.maximum(dark, 1)
    between = dark / bright.size * (light / bright.size) * contrast**2
    threshold = int(between.argmax())
    within = counts @ (_LEVELS - mass[-1] / bright.size) ** 2 / bright.size - between[threshold]
    deviation = max(float(within), 1.0) ** 0.5  # grey levels are whole: no deviation below one can be told
    gap = float(contrast[threshold]) if between[threshold] > 0 else 0.0  # one level alone makes no two classes
    return Split(threshold, int(counts[: threshold + 1].argmax()), gap, gap / deviation)


def bright_ink(grey: Grey) -> tuple[Grey, bool]:
    """Return the picture with its ink brighter than the background, and whether the ink was dark.

    An uneven border means uneven light, or a digit cut tightly. The background is then subtracted, if ink and
    background are clearly further apart without it, and more clearly so if that reverses the polarity. Strokes wider
    than the kernel gain nothing by it.
    """
    inverted = _ink_is_dark(grey)
    bright = 255 - grey if inverted else grey
    if min(grey.shape) < LEAST_SIDE:
        return bright, inverted
    border = np.sort(border_of(grey))
    if int(border[border.size * 3 // 4]) - int(border[border.size // 4]) <= 8:
        return bright, inverted
    flat = [_without_background(grey), _without_background(255 - grey)]
    distances = [_ink_distance(candidate) for candidate in flat]
    distances[not inverted] /= CLEARLY
    if max(distances) <= CLEARLY * otsu(bright).distance:
        return bright, inverted
    inverted = distances[1] > distances[0]
    return flat[inverted], inverted


def _ink_distance(bright: Grey) -> float:
    """Return the distance of ink and background, or 0 if the brighter part is the larger: then it is paper."""
    split = otsu(bright)
    return split.distance if 2 * np.count_nonzero(bright > split.threshold) < bright.size else 0.0


def _ink_is_dark(grey: Grey) -> bool:
    """Tell whether the ink is darker than the paper: it is the smaller part, so the levels are skewed towards it.

    If the skewness is small (ink covers over 31 %), the border decides: nearly all of it is paper. If the border is
    mixed too, the picture is cut tightly: ink is then in one piece and paper in several.
    """
    deviation = grey - np.float32(grey.sum() / grey.size)
    variance = float(np.vdot(deviation, deviation)) / grey.size
    skewness = float(np.vdot(deviation * deviation, deviation)) / grey.size / max(variance, 1e-6) ** 1.5
    if abs(skewness) >= 0.8:
        return bool(skewness < 0)
    border = border_of(deviation)
    light = np.count_nonzero(border > 0) / border.size
    if 0.15 < light < 0.85:
        pieces = _largest_share(deviation < 0) - _largest_share(deviation > 0)
        if abs(pieces) > 0.1:
            return pieces > 0
        if abs(skewness) >= 0.3:
            return bool(skewness < 0)
    return float(border.sum()) > 0


def _largest_share(mask: Mask) -> float:
    """Return the largest component's share of the mask, sampled at about 32x32 points."""
    step = -(-max(mask.shape) // 32)
    labels, _ = components(mask[step // 2 :: step, step // 2 :: step])
    area = np.bincount(labels.ravel())[1:]
    return float(area.max() / area.sum()) if area.size else 0.0


def _without_background(bright: Grey) -> Grey:
    """Subtract the grey opening, which removes strokes under 9/32 of the picture; add 30 to keep the noise."""
    height, width = bright.shape
    scale = max(height, width) / 32
    size = max(1, round(width / scale)), max(1, round(height / scale))
    small = np.asarray(Image.fromarray(bright).resize(size, Image.Resampling.BOX), np.int16)
    # Odd reflection continues a slope past the border; else the opening would fall short of it there.
    wide = Image.fromarray(np.pad(small, 8, "reflect", reflect_type="odd").clip(0, 255).astype(np.uint8))
    opened = wide.filter(ImageFilter.MinFilter(9)).filter(ImageFilter.MaxFilter(9)).filter(ImageFilter.BoxBlur(2))
    opened = opened.crop((8, 8, 8 + size[0], 8 + size[1]))
    background = np.asarray(opened.resize((width, height), Image.Resampling.BILINEAR), np.int16)
    return (bright - background + 30).clip(0, 255).astype(np.uint8)
