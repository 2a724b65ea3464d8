"""Which parts of a mask are the digit: connected components, and what lies near, around and beside them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from worker.image.edges import MARGIN, are_pieces, is_edging
from worker.image.several import is_chain, is_stack

Mask = NDArray[np.bool_]
Labels = NDArray[np.intp]

#: In a picture lower or narrower than this, in pixels, pieces that stand side by side are no two digits.
ROOM = 24
#: In fewer cells a piece of a line that does not touch the side is no longer than a digit.
WIDE = 32
#: Something else in the picture is no speck if it is so large, measured by the diagonal of the digit's box ...
LARGE = 0.4
#: ... and has so much of the digit's ink: a thin 1 beside a thick 0 has a tenth, a line that is left of squares less.
INKED = 0.1
#: A part this many times as wide as high is a dash or a line under the digit.
FLAT = 4


def digit(mask: Mask, lined: bool = False) -> tuple[Mask, bool]:
    """The part of `mask` that is the digit, without specks, frames and what hangs on the border; all False if none.
    And whether another digit stands anywhere else. `lined` says whether ruling was taken out of the mask.

    Parts are told apart on at most 64x64 cells, which closes small gaps, and in a long row or column of digits on so
    many times as many; a cell counts from half a hairline's ink.
    """
    height, width = mask.shape
    side = -(-min(max(height, width), 2 * min(height, width)) // 64)
    cells = mask
    if side > 1:
        padded = np.pad(mask, ((0, -height % side), (0, -width % side)))
        blocks = padded.reshape(padded.shape[0] // side, side, padded.shape[1] // side, side)
        cells = blocks.sum(axis=(1, 3)) > side / 2
    roomy, found = min(mask.shape) >= ROOM, None
    if roomy:
        cells, found = _without_edging(cells, lined)
    if not cells.any():
        return np.zeros_like(mask), False
    kept, several = _main_parts(cells, roomy, found or components(cells))
    several = several or (roomy and is_chain(kept))
    if side > 1:
        kept = grown(kept).repeat(side, 0).repeat(side, 1)[:height, :width]
    kept &= mask
    return kept, several or (side > 1 and is_stack(kept))


def grown(mask: Mask) -> Mask:
    """The mask and the eight neighbours of each of its pixels."""
    wide = mask.copy()
    wide[:, 1:] |= mask[:, :-1]
    wide[:, :-1] |= mask[:, 1:]
    high = wide.copy()
    high[1:] |= wide[:-1]
    high[:-1] |= wide[1:]
    return high


def _without_edging(cells: Mask, lined: bool) -> tuple[Mask, tuple[Labels, int] | None]:
    """The cells without the lines along the sides of the picture; where there were any, without what is left of them.

    And the components, where they were found and have not changed. A cut cell has lines on more sides than one, and of
    the paler ones no more than pieces may have been seen.
    """
    rows, columns = (math.ceil(MARGIN * length) if min(cells.shape) >= WIDE else 1 for length in cells.shape)
    if not (cells[:rows].any() or cells[-rows:].any() or cells[:, :columns].any() or cells[:, -columns:].any()):
        return cells, None
    labels, count = components(cells)
    if count == 1 and min(cells.shape) < WIDE:
        return (np.zeros_like(cells), None) if is_edging(cells) else (cells, (labels, count))
    border = labels[[0, -1]].ravel(), labels[:, [0, -1]].ravel()
    touching = np.unique(np.concatenate(border))
    touching = touching[touching > 0]
    every = np.isin(labels, touching)
    lines = touching if len(touching) and is_edging(every) else [part for part in touching if is_edging(labels == part)]
    pieces = are_pieces(*_boxes(labels, count), cells.shape, lined or len(lines) > 0)
    lines = [*lines, *np.flatnonzero(pieces) + 1]
    return (cells & ~np.isin(labels, lines), None) if lines else (cells, (labels, count))


def _main_parts(cells: Mask, roomy: bool, found: tuple[Labels, int]) -> tuple[Mask, bool]:
    """Of the components found the largest part, those at the border counting less, and what is near it; if it frames
    another, that one. And whether there is another part like it, anywhere in the picture.
    """
    labels, count = found
    if count == 1:
        return cells, False
    low, high = _boxes(labels, count)
    size = np.hypot(*(high - low))
    cut = (low == 0).any(axis=0) | (high == np.array([cells.shape]).T).any(axis=0)
    area = np.bincount(labels.ravel())[1:]
    depth = np.bincount(labels.ravel(), _depths(cells.shape).ravel())[1:] / area
    order = np.argsort(-np.where(cut, np.minimum(0.4 * size, 3 * depth), size))
    main, frames = order[0], np.zeros(count, np.bool_)
    for part in order[1:]:
        least = 0.1 if _is_box(labels == main + 1, low[:, main], high[:, main]) else 0.3
        if size[part] >= least * size[main] and _frames(labels == main + 1, low[:, part], high[:, part]):
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


def _beside(low: Labels, high: Labels, main: int, keep: Mask) -> Mask:
    """Which boxes [2, n] stand at the side of the main one, or above or below it, about as high, with a gap between.

    None if these are pieces of one digit: its halves meet, or lie flat, or shorter pieces are kept above or below.
    """
    height, width = high - low
    shared, gap = -_gaps(low[0], high[0], main), _gaps(low[1], high[1], main)
    upright = (height >= 0.8 * width) & (height[main] >= 0.8 * width[main])
    alike = upright & (np.minimum(height, height[main]) >= 0.65 * np.maximum(height, height[main]))
    found: Mask = alike & ((gap >= 0.08 * height[main]) | (-shared >= 0.15 * height[main]))
    pieces = keep & (height < 0.65 * height[main])
    broken = pieces & ((low[0] < low[0, main] - 0.1 * height[main]) | (high[0] > high[0, main] + 0.1 * height[main]))
    return found if not broken.any() else np.zeros_like(found)


def _gaps(low: Labels, high: Labels, main: int) -> Labels:
    """How far each span [n] is from the main one; negative where they overlap."""
    gaps: Labels = np.maximum(low, low[main]) - np.minimum(high, high[main])
    return gaps


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
