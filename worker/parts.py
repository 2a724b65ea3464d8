"""Which parts of a mask are the digit: connected components, and what lies near, around and beside them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Labels = NDArray[np.intp]

#: In a picture lower or narrower than this, in pixels, pieces that stand side by side are no two digits.
ROOM = 24


def digit(mask: Mask) -> tuple[Mask, bool]:
    """The part of `mask` that is the digit, without specks, frames and what hangs on the border; all False if none.
    And whether another digit stands beside it.

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
        return np.zeros_like(mask), False
    kept, several = _main_parts(cells)
    if side > 1:
        kept = grown(kept).repeat(side, 0).repeat(side, 1)[:height, :width]
    return mask & kept, several


def grown(mask: Mask) -> Mask:
    """The mask and the eight neighbours of each of its pixels."""
    wide = mask.copy()
    wide[:, 1:] |= mask[:, :-1]
    wide[:, :-1] |= mask[:, 1:]
    high = wide.copy()
    high[1:] |= wide[:-1]
    high[:-1] |= wide[1:]
    return high


def _main_parts(cells: Mask) -> tuple[Mask, bool]:
    """The largest part, those at the border counting less, and what is near it; if it frames another, that one.
    And whether there is another part like it at its side.
    """
    labels, count = components(cells)
    if count == 1:
        return cells, False
    low, high = _boxes(labels, count)
    size = np.hypot(*(high - low))
    cut = (low == 0).any(axis=0) | (high == np.array([cells.shape]).T).any(axis=0)
    area = np.bincount(labels.ravel())[1:]
    depth = np.bincount(labels.ravel(), _depths(cells.shape).ravel())[1:] / area
    order = np.argsort(-np.where(cut, np.minimum(0.4 * size, 3 * depth), size))
    main = order[0]
    for part in order[1:]:
        least = 0.1 if _is_box(labels == main + 1, low[:, main], high[:, main]) else 0.3
        if size[part] >= least * size[main] and _frames(labels == main + 1, low[:, part], high[:, part]):
            main = part
    margin = 0.4 * size[main]
    near = ((low < high[:, [main]] + margin) & (high > low[:, [main]] - margin)).all(axis=0)
    keep = near & (area >= 0.1 * area[main]) & (size <= size[main]) & (~cut | cut[main])
    kept: Mask = np.concatenate([[False], keep])[labels]
    like = (area >= 0.2 * area[main]) & (area <= 5 * area[main]) & (~cut | cut[main])
    roomy = min(cells.shape) >= ROOM
    return kept, bool(roomy and (like & _beside(low, high, main, keep)).any())


def _beside(low: Labels, high: Labels, main: int, keep: Mask) -> Mask:
    """Which boxes [2, n] stand at the side of the main one, about as high and on the same line, with a gap between.

    None if these are pieces of one digit: its halves meet, or lie flat, or shorter pieces are kept above or below.
    """
    height, width = high - low
    shared = np.minimum(high[0], high[0, main]) - np.maximum(low[0], low[0, main])
    gap = np.maximum(low[1], low[1, main]) - np.minimum(high[1], high[1, main])
    upright = (height >= 0.8 * width) & (height[main] >= 0.8 * width[main])
    alike = upright & (np.minimum(height, height[main]) >= 0.65 * np.maximum(height, height[main]))
    found: Mask = alike & (shared >= 0.6 * np.minimum(height, height[main])) & (gap >= 0.08 * height[main])
    pieces = keep & (height < 0.65 * height[main])
    broken = pieces & ((low[0] < low[0, main] - 0.1 * height[main]) | (high[0] > high[0, main] + 0.1 * height[main]))
    return found if not broken.any() else np.zeros_like(found)


def _depths(shape: tuple[int, ...]) -> Labels:
    """How far each cell is from the border of the picture: margins, hands and the desk lie along it, digits do not."""
    down, across = (np.minimum(np.arange(length), np.arange(length)[::-1]) for length in shape)
    return np.minimum(down[:, None], across)


def _is_box(part: Mask, low: Labels, high: Labels) -> bool:
    """Whether nearly all of the part lies along the sides of its own box, as of a drawn rectangle and no round 0."""
    (top, left), (bottom, right) = low, high
    inner = part[top + 2 : bottom - 2, left + 2 : right - 2]
    return bool(min(bottom - top, right - left) > 12 and np.count_nonzero(inner) < 0.1 * np.count_nonzero(part))


def _frames(part: Mask, low: Labels, high: Labels) -> bool:
    """Whether `part` is met on all four ways out from the middle of the box `low`..`high`."""
    (top, left), (bottom, right) = low, high
    row, column = part[(top + bottom) // 2], part[:, (left + right) // 2]
    return bool(row[:left].any() and row[right:].any() and column[:top].any() and column[bottom:].any())


def components(cells: Mask) -> tuple[Labels, int]:
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
