"""Where the ink of a digit is in a picture: its polarity, the background, the threshold, and the parts that belong."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Grey = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Labels = NDArray[np.intp]

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

    Uneven light shows at the border. What then stands out from the local background, in the better polarity, replaces
    the picture if that sets ink and background clearly further apart; strokes wider than the kernel do not gain by it.
    """
    inverted = _ink_is_dark(grey)
    bright = 255 - grey if inverted else grey
    border = np.sort(np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]]))
    if int(border[border.size * 3 // 4]) - int(border[border.size // 4]) <= 8:
        return bright, inverted
    flat = [_without_background(grey), _without_background(255 - grey)]
    distances = [otsu(candidate).distance for candidate in flat]
    if max(distances) <= 1.3 * otsu(bright).distance:
        return bright, inverted
    inverted = distances[1] > distances[0]
    return flat[inverted], inverted


def _ink_is_dark(grey: Grey) -> bool:
    """Ink is the lesser part, so the levels are skewed towards it; if hardly (it has over 42 %), the border decides."""
    deviation = grey - np.float32(grey.sum() / grey.size)
    variance = float(np.vdot(deviation, deviation)) / grey.size
    skewness = float(np.vdot(deviation * deviation, deviation)) / grey.size / max(variance, 1e-6) ** 1.5
    if abs(skewness) >= 0.3:
        return bool(skewness < 0)
    border = deviation[0].sum() + deviation[-1].sum() + deviation[:, 0].sum() + deviation[:, -1].sum()
    return float(border) > 0


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


def digit(mask: Mask) -> Mask:
    """The part of `mask` that is the digit, without specks, frames and what hangs on the border; all False if none.

    Parts are told apart on at most 64x64 cells, which closes small gaps; a cell counts from half a hairline's ink.
    """
    height, width = mask.shape
    side = -(-max(height, width) // 64)
    cells = mask
    if side > 1:
        padded = np.pad(mask, ((0, -height % side), (0, -width % side)))
        blocks = padded.reshape(padded.shape[0] // side, side, padded.shape[1] // side, side)
        cells = blocks.sum(axis=(1, 3)) > side / 2
    if not cells.any():
        return np.zeros_like(mask)
    kept = _main_parts(cells)
    if side > 1:
        kept = grown(kept).repeat(side, 0).repeat(side, 1)[:height, :width]
    return mask & kept


def grown(mask: Mask) -> Mask:
    """The mask and the eight neighbours of each of its pixels."""
    wide = mask.copy()
    wide[:, 1:] |= mask[:, :-1]
    wide[:, :-1] |= mask[:, 1:]
    high = wide.copy()
    high[1:] |= wide[:-1]
    high[:-1] |= wide[1:]
    return high


def _main_parts(cells: Mask) -> Mask:
    """The largest part, those at the border counting less, and what is near it; if it frames another, that one."""
    labels, count = _components(cells)
    if count == 1:
        return cells
    low, high = _boxes(labels, count)
    size = np.hypot(*(high - low))
    cut = (low == 0).any(axis=0) | (high == np.array([cells.shape]).T).any(axis=0)
    order = np.argsort(-size * np.where(cut, 0.4, 1))
    main = order[0]
    for part in order[1:]:
        if size[part] >= 0.3 * size[main] and _frames(labels == main + 1, low[:, part], high[:, part]):
            main = part
    margin = 0.4 * size[main]
    near = ((low < high[:, [main]] + margin) & (high > low[:, [main]] - margin)).all(axis=0)
    area = np.bincount(labels.ravel())[1:]
    keep = near & (area >= 0.1 * area[main]) & (size <= size[main]) & (~cut | cut[main])
    kept: Mask = np.concatenate([[False], keep])[labels]
    return kept


def _frames(part: Mask, low: Labels, high: Labels) -> bool:
    """Whether `part` is met on all four ways out from the middle of the box `low`..`high`."""
    (top, left), (bottom, right) = low, high
    row, column = part[(top + bottom) // 2], part[:, (left + right) // 2]
    return bool(row[:left].any() and row[right:].any() and column[:top].any() and column[bottom:].any())


def _components(cells: Mask) -> tuple[Labels, int]:
    """The 8-connected components, by the union of runs: labels [H, W] from 1 (0 elsewhere), and how many there are."""
    height, width = cells.shape[0], cells.shape[1] + 2
    padded = np.zeros((height, width), np.bool_)
    padded[:, 1:-1] = cells
    line = padded.ravel()
    edges = np.flatnonzero(line[1:] != line[:-1])
    starts, stops = edges[::2], edges[1::2]
    first = np.searchsorted(stops, starts + width)  # in the next row, touching if only by a corner: stop >= start ...
    last = np.searchsorted(starts, stops + width, side="right")  # ... and start <= stop
    parents = list(range(len(starts)))
    for run, (begin, end) in enumerate(zip(first.tolist(), last.tolist(), strict=True)):
        for other in range(begin, end):
            one, two = _root(parents, run), _root(parents, other)
            parents[two if one < two else one] = one if one < two else two
    number: dict[int, int] = {}
    parts = [number.setdefault(_root(parents, run), len(number) + 1) for run in range(len(parents))]
    labels = np.zeros(cells.shape, np.intp)
    labels[cells] = np.repeat(parts, stops - starts)
    return labels, len(number)


def _root(parents: list[int], run: int) -> int:
    while parents[run] != run:
        parents[run] = run = parents[parents[run]]
    return run


def _boxes(labels: Labels, count: int) -> tuple[Labels, Labels]:
    """The first and, one past it, the last row and column of each component: twice [2, count]."""
    places = np.nonzero(labels)
    parts = labels[places] - 1
    low, high = np.full((2, count), max(labels.shape)), np.zeros((2, count), np.intp)
    for axis, place in enumerate(places):
        np.minimum.at(low[axis], parts, place)
        np.maximum.at(high[axis], parts, place + 1)
    return low, high
