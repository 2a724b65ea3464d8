"""Finds the connected components of a mask, and their bounding boxes.

OpenCV, which reads the pages of numbers, has the same functions. In their place it saved 45 lines and no CPU time on
pictures of one digit, and would add 15 MB to the memory of a worker that reads no pages.
"""

from __future__ import annotations

import numpy as np

from worker.image.arrays import Ints, Mask


def grown(mask: Mask) -> Mask:
    """Dilate the mask by one pixel in all eight directions."""
    wide = mask.copy()
    wide[:, 1:] |= mask[:, :-1]
    wide[:, :-1] |= mask[:, 1:]
    high = wide.copy()
    high[1:] |= wide[:-1]
    high[:-1] |= wide[1:]
    return high


def components(mask: Mask) -> tuple[Ints, int]:
    """Label the 8-connected components: labels [H, W], from 1 in raster order and 0 elsewhere, and their number.

    Joins the horizontal runs of pixels that touch, with union-find.
    """
    height, width = mask.shape[0], mask.shape[1] + 2
    padded = np.zeros((height, width), np.bool_)
    padded[:, 1:-1] = mask
    line = padded.ravel()
    edges = np.flatnonzero(line[1:] != line[:-1])
    starts, stops = edges[::2], edges[1::2]
    # Runs of the next row touch, if only by a corner, from the first with stop >= start to the last with start <= stop.
    first = np.searchsorted(stops, starts + width)
    last = np.searchsorted(starts, stops + width, side="right")
    parents = list(range(len(starts)))
    for run, (begin, end) in enumerate(zip(first.tolist(), last.tolist(), strict=True)):
        for other in range(begin, end):
            one, two = _root(parents, run), _root(parents, other)
            parents[max(one, two)] = min(one, two)
    numbers: dict[int, int] = {}
    parts = [numbers.setdefault(_root(parents, run), len(numbers) + 1) for run in range(len(parents))]
    labels = np.zeros(mask.shape, np.intp)
    labels[mask] = np.repeat(parts, stops - starts)
    return labels, len(numbers)


def _root(parents: list[int], run: int) -> int:
    while parents[run] != run:
        parents[run] = run = parents[parents[run]]
    return run


def bounding_boxes(labels: Ints, count: int) -> tuple[Ints, Ints]:
    """Return the first and, one past it, the last row and column of each component: two arrays [2, count]."""
    places = np.nonzero(labels)
    parts = labels[places] - 1
    low, high = np.full((2, count), max(labels.shape)), np.zeros((2, count), np.intp)
    for axis, place in enumerate(places):
        np.minimum.at(low[axis], parts, place)
        np.maximum.at(high[axis], parts, place + 1)
    return low, high
