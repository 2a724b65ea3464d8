"""Selects the components of a mask that are the digit, and notices other digits."""

from __future__ import annotations

import math

import numpy as np

from worker.image.arrays import Ints, Mask
from worker.image.border_lines import MARGIN, are_line_fragments, is_border_line
from worker.image.components import bounding_boxes, components, grown
from worker.image.multiple_digits import is_chain, is_stack

#: Components are found on at most this many cells by this many.
CELLS = 64
#: In a picture with a shorter side, in pixels, components side by side are not taken for two digits.
ROOM = 24
#: In fewer cells a fragment of a line that does not touch the side is no longer than a digit.
WIDE = 32
#: Another component is more than a speck if its diagonal is this share of the digit's ...
LARGE = 0.4
#: ... and its ink this share: a thin 1 beside a thick 0 has a tenth, a line left of squares has less.
INKED = 0.1
#: A component this many times as wide as high is a dash, or a line under the digit.
FLAT = 4


def find_digit(mask: Mask, lined: bool = False) -> tuple[Mask, bool]:
    """Return the part of `mask`, bool [H, W], that is the digit, and whether there is another digit.

    Leaves out specks, frames, and what hangs on the border; all is False if nothing is left. `lined` says whether
    ruling was removed from the mask.
    Components are found on 64x64 cells, or on more for a long row or column, which closes small gaps. A cell counts if
    it has half the ink of a hairline.
    """
    height, width = mask.shape
    side = -(-min(max(height, width), 2 * min(height, width)) // CELLS)
    cells = _cells(mask, side) if side > 1 else mask
    roomy, found = min(mask.shape) >= ROOM, None
    if roomy:
        cells, found = _without_border_lines(cells, lined)
    if not cells.any():
        return np.zeros_like(mask), False
    kept, several = _main_components(cells, roomy, found or components(cells))
    several = several or (roomy and is_chain(kept))
    if side > 1:
        kept = grown(kept).repeat(side, 0).repeat(side, 1)[:height, :width]
    kept = kept & mask
    return kept, several or (side > 1 and is_stack(kept))


def _cells(mask: Mask, side: int) -> Mask:
    """Reduce the mask by `side`; a cell is True from half a hairline's ink."""
    padded = np.pad(mask, ((0, -mask.shape[0] % side), (0, -mask.shape[1] % side)))
    blocks = padded.reshape(padded.shape[0] // side, side, padded.shape[1] // side, side)
    cells: Mask = blocks.sum(axis=(1, 3)) > side / 2
    return cells


def _without_border_lines(cells: Mask, lined: bool) -> tuple[Mask, tuple[Ints, int] | None]:
    """Remove the lines along the sides of the picture and, if there were any, their fragments.

    Also returns the components, if they were found and are unchanged. A cell cut from a form has lines on several
    sides; only fragments of the paler ones may be visible.
    """
    rows, columns = (math.ceil(MARGIN * length) if min(cells.shape) >= WIDE else 1 for length in cells.shape)
    if not (cells[:rows].any() or cells[-rows:].any() or cells[:, :columns].any() or cells[:, -columns:].any()):
        return cells, None
    labels, count = components(cells)
    if count == 1 and min(cells.shape) < WIDE:
        return (np.zeros_like(cells), None) if is_border_line(cells) else (cells, (labels, count))
    touching = np.unique(np.concatenate([labels[[0, -1]].ravel(), labels[:, [0, -1]].ravel()]))
    touching = touching[touching > 0]
    if len(touching) and is_border_line(np.isin(labels, touching)):
        lines = list(touching)
    else:
        lines = [part for part in touching if is_border_line(labels == part)]
    fragments = are_line_fragments(*bounding_boxes(labels, count), cells.shape, lined or len(lines) > 0)
    lines += list(np.flatnonzero(fragments) + 1)
    return (cells & ~np.isin(labels, lines), None) if lines else (cells, (labels, count))


def _main_components(cells: Mask, roomy: bool, found: tuple[Ints, int]) -> tuple[Mask, bool]:
    """Keep the largest component, or the one that it frames, and those near it; tell whether another is like it.

    Components at the border count less.
    """
    labels, count = found
    if count == 1:
        return cells, False
    low, high = bounding_boxes(labels, count)
    size = np.hypot(*(high - low))
    cut = (low == 0).any(axis=0) | (high == np.array([cells.shape]).T).any(axis=0)
    area = np.bincount(labels.ravel())[1:]
    depth = np.bincount(labels.ravel(), _depths(cells.shape).ravel())[1:] / area
    order = np.argsort(-np.where(cut, np.minimum(0.4 * size, 3 * depth), size))
    main, frames = order[0], np.zeros(count, np.bool_)
    for part in order[1:]:
        least = 0.1 if _is_box(labels == main + 1, low[:, main], high[:, main]) else 0.3
        if size[part] >= least * size[main] and _surrounds(labels == main + 1, low[:, part], high[:, part]):
            frames[main] = True
            main = part
    margin = 0.4 * size[main]
    near = ((low < high[:, [main]] + margin) & (high > low[:, [main]] - margin)).all(axis=0)
    keep = near & (area >= 0.1 * area[main]) & (size <= size[main]) & (~cut | cut[main])
    kept: Mask = np.concatenate([[False], keep])[labels]
    if not roomy:
        return kept, False
    height, width = high - low
    apart = ~keep & ~frames & (size >= LARGE * size[main]) & (area >= INKED * area[main]) & (width < FLAT * height)
    beside = (area >= 0.2 * area[main]) & (area <= 5 * area[main]) & _beside(low, high, main, keep)
    return kept, bool(((apart | beside) & (~cut | cut[main])).any())


def _beside(low: Ints, high: Ints, main: int, keep: Mask) -> Mask:
    """Tell which boxes [2, n] are about as high as the main one and stand apart beside, above or below it.

    None do if they are pieces of one digit: its halves meet, or lie flat, or shorter pieces are kept above or below.
    """
    height, width = high - low
    shared, gap = -_gaps(low[0], high[0], main), _gaps(low[1], high[1], main)
    upright = (height >= 0.8 * width) & (height[main] >= 0.8 * width[main])
    alike = upright & (np.minimum(height, height[main]) >= 0.65 * np.maximum(height, height[main]))
    found: Mask = alike & ((gap >= 0.08 * height[main]) | (-shared >= 0.15 * height[main]))
    pieces = keep & (height < 0.65 * height[main])
    broken = pieces & ((low[0] < low[0, main] - 0.1 * height[main]) | (high[0] > high[0, main] + 0.1 * height[main]))
    return found if not broken.any() else np.zeros_like(found)


def _gaps(low: Ints, high: Ints, main: int) -> Ints:
    """Return how far each span [n] is from the main one; negative where they overlap."""
    gaps: Ints = np.maximum(low, low[main]) - np.minimum(high, high[main])
    return gaps


def _depths(shape: tuple[int, ...]) -> Ints:
    """Return how far each cell is from the border: margins, hands and the desk lie along it, digits do not."""
    down, across = (np.minimum(np.arange(length), np.arange(length)[::-1]) for length in shape)
    return np.minimum(down[:, None], across)


def _is_box(part: Mask, low: Ints, high: Ints) -> bool:
    """Tell whether nearly all of the component lies along its bounding box, as in a rectangle and not in a round 0."""
    (top, left), (bottom, right) = low, high
    inner = part[top + 2 : bottom - 2, left + 2 : right - 2]
    return bool(min(bottom - top, right - left) > 12 and np.count_nonzero(inner) < 0.1 * np.count_nonzero(part))


def _surrounds(part: Mask, low: Ints, high: Ints) -> bool:
    """Tell whether `part` lies in all four directions from the middle of the box `low`..`high`."""
    (top, left), (bottom, right) = low, high
    row, column = part[(top + bottom) // 2], part[:, (left + right) // 2]
    return bool(row[:left].any() and row[right:].any() and column[:top].any() and column[bottom:].any())
