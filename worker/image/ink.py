"""What is ink in a picture and what is paper: polarity, background, threshold."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from worker.image.parts import Mask, components

Grey = NDArray[np.uint8]

#: In a picture with less on a side a digit leaves no room for light of its own.
LEAST_SIDE = 20
#: So many times as far apart are ink and background clearly further apart.
CLEARLY = 1.3

_LEVELS = np.arange(256.0)


class Split(NamedTuple):
    """Background and ink as two classes of grey levels, ink the brighter."""

    threshold: int  # the brightest level of the background
    paper: int  # the most frequent level of the background
    contrast: float  # between the means of the classes, in grey levels
    distance: float  # the same in standard deviations within the classes


def otsu(bright: Grey) -> Split:
    """The split with the largest variance between the classes (N. Otsu, IEEE Trans. SMC 9, 1979, 62-66)."""
    counts = np.bincount(bright.ravel(), minlength=256)
    mass = (counts * _LEVELS).cumsum()
    dark = counts.cumsum()[:-1]
    light = bright.size - dark
    contrast = (mass[-1] - mass[:-1]) / np.maximum(light, 1) - mass[:-1] / np.maximum(dark, 1)
    between = dark / bright.size * (light / bright.size) * contrast**2
    threshold = int(between.argmax())
    within = counts @ (_LEVELS - mass[-1] / bright.size) ** 2 / bright.size - between[threshold]
    deviation = max(float(within), 1.0) ** 0.5  # grey levels are whole: there is no telling less than one
    gap = float(contrast[threshold]) if between[threshold] > 0 else 0.0  # of one level there are no two classes
    return Split(threshold, int(counts[: threshold + 1].argmax()), gap, gap / deviation)


def bright_ink(grey: Grey) -> tuple[Grey, bool]:
    """The picture with its ink brighter than the background, and whether the ink was dark.

    Uneven light shows at the border, and so does a digit that is cut tightly. What then stands out from the local
    background replaces the picture if that sets ink and background clearly further apart, and all the more clearly if
    it takes the ink for paper and the paper for ink; strokes wider than the kernel do not gain by it.
    """
    inverted = _ink_is_dark(grey)
    bright = 255 - grey if inverted else grey
    if min(grey.shape) < LEAST_SIDE:
        return bright, inverted
    border = np.sort(np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]]))
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
    """How far apart ink and background are; 0 if the brighter part is the larger: paper between lines."""
    split = otsu(bright)
    return split.distance if 2 * np.count_nonzero(bright > split.threshold) < bright.size else 0.0


def _ink_is_dark(grey: Grey) -> bool:
    """Ink is the lesser part, so the levels are skewed towards it. If not clearly (it has over 31 %), nearly all of the
    border is paper, or in a picture cut tightly, ink is one piece and paper several; else what has more of the border.
    """
    deviation = grey - np.float32(grey.sum() / grey.size)
    variance = float(np.vdot(deviation, deviation)) / grey.size
    skewness = float(np.vdot(deviation * deviation, deviation)) / grey.size / max(variance, 1e-6) ** 1.5
    if abs(skewness) >= 0.8:
        return bool(skewness < 0)
    edge = np.concatenate([deviation[0], deviation[-1], deviation[:, 0], deviation[:, -1]])
    light = np.count_nonzero(edge > 0) / edge.size
    if 0.15 < light < 0.85:
        pieces = _largest_share(deviation < 0) - _largest_share(deviation > 0)
        if abs(pieces) > 0.1:
            return pieces > 0
        if abs(skewness) >= 0.3:
            return bool(skewness < 0)
    return float(edge.sum()) > 0


def _largest_share(mask: Mask) -> float:
    """How much of the mask, looked at in about 32x32 points, its largest part has."""
    step = -(-max(mask.shape) // 32)
    labels, _ = components(mask[step // 2 :: step, step // 2 :: step])
    area = np.bincount(labels.ravel())[1:]
    return float(area.max() / area.sum()) if area.size else 0.0


def _without_background(bright: Grey) -> Grey:
    """The picture less its grey opening, which swallows strokes under 9/32 of the picture, + 30 for the noise."""
    height, width = bright.shape
    scale = max(height, width) / 32
    size = max(1, round(width / scale)), max(1, round(height / scale))
    small = np.asarray(Image.fromarray(bright).resize(size, Image.Resampling.BOX), np.int16)
    # Odd reflection continues a slope past the border, where the opening would else fall short of it.
    wide = Image.fromarray(np.pad(small, 8, "reflect", reflect_type="odd").clip(0, 255).astype(np.uint8))
    opened = wide.filter(ImageFilter.MinFilter(9)).filter(ImageFilter.MaxFilter(9)).filter(ImageFilter.BoxBlur(2))
    opened = opened.crop((8, 8, 8 + size[0], 8 + size[1]))
    background = np.asarray(opened.resize((width, height), Image.Resampling.BILINEAR), np.int16)
    return (bright - background + 30).clip(0, 255).astype(np.uint8)
