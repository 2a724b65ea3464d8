"""Finds printed ruling: straight lines and squares across the paper."""

from __future__ import annotations

import numpy as np

from worker.image.arrays import Floats64, Ints, Mask

#: A ruled line is thinner than this share of the picture's shorter side, or than LEAST_THIN pixels ...
THIN, LEAST_THIN = 0.03, 2
#: ... leans by at most this slope (5.7 degrees): people hold paper and camera nearly straight ...
LEAN = 0.1
#: ... is inked along this share of its way: print is pale, and noise and light make holes in it ...
INKED = 0.8
#: ... and, if it leaves the picture above or below, crosses at least this share of the width.
SHORTEST = 0.15
#: This many lines are squares or a frame: their other lines need not be visible from border to border.
SQUARES = 2
#: With more marks than this on one side the picture is noisy, not ruled.
MOST = 48
#: Smaller pictures are taken as unruled: a stroke may be a single pixel there.
LEAST_SIDE = 48


def find_ruling(mask: Mask) -> Mask | None:
    """Return the pixels of `mask`, bool [H, W], that are thin straight lines from border to border; None if none are.

    Strokes that cross a line stay whole: only those pixels of a line are returned whose run across it is about as short
    as the line is thin.
    """
    if min(mask.shape) < LEAST_SIDE:
        return None
    lean, count = _lean(mask)
    other, other_count = _lean(mask.T)
    if count + other_count >= SQUARES:  # squares are rigid: the direction that shows better gives the other
        lean, other = (lean, -lean) if count >= other_count else (-other, other)
        count = other_count = SQUARES
    across = _lines(mask, lean) if count else np.zeros_like(mask)
    down = _lines((mask & ~across).T, other).T if other_count else np.zeros_like(mask)
    found = across | down
    return found if found.any() else None


def _lean(mask: Mask) -> tuple[float, int]:
    """Return the median slope of thin straight lines from left to right, in rows per column, and their number."""
    width, thin = mask.shape[1], _thin(mask)
    edge = width // 20
    begin, left = _marks(mask[:, :edge], thin)
    end, right = _marks(mask[:, -edge:], thin)
    end += width - edge
    if max(left.size, right.size) > MOST:
        return 0.0, 0
    leans = (right - left[:, None]) / (end - begin)
    starts = left[:, None] - leans * begin
    near = np.abs(leans) <= LEAN
    leans, starts = leans[near], starts[near]
    share, typical, _ = _follow(mask, leans, starts)
    leans = np.sort(leans[(share >= INKED) & (typical <= thin)])
    return (float(leans[leans.size // 2]), leans.size) if leans.size else (0.0, 0)


def _lines(mask: Mask, lean: float) -> Mask:
    """Return the pixels of all lines of this slope, including those that leave the picture above or below."""
    height, width = mask.shape
    starts = np.arange(min(0, -lean * width), height - min(0, lean * width))
    share, typical, inside = _follow(mask, np.full(starts.size, lean), starts)
    columns, lengths = np.arange(width), _vertical_runs(mask)
    found = np.zeros_like(mask)
    for line in np.flatnonzero((share >= INKED) & (typical <= _thin(mask)) & (inside >= SHORTEST * width)):
        way = np.rint(starts[line] + lean * columns).astype(np.intp)
        for step in range(-typical[line], typical[line] + 1):
            rows = (way + step).clip(0, height - 1)
            run = lengths[rows, columns]
            found[rows, columns] |= (run > 0) & (run <= 1.5 * typical[line] + 1)
    return found


def _follow(mask: Mask, leans: Floats64, starts: Floats64) -> tuple[Floats64, Ints, Ints]:
    """Follow n lines, given by slope and first row, from left to right.

    Returns, each [n]: the inked share of their way, the lower quartile of the lengths of the vertical runs that they
    meet, and how many of their columns lie in the picture.
    """
    height, width = mask.shape
    columns = np.arange(width)
    ways = np.rint(starts[:, None] + leans[:, None] * columns).astype(np.intp)
    within = (ways >= 0) & (ways < height)
    lengths = np.pad(_vertical_runs(mask), ((1, 1), (0, 0)))
    ways = ways.clip(0, height - 1) + 1
    runs = np.maximum(np.maximum(lengths[ways - 1, columns], lengths[ways + 1, columns]), lengths[ways, columns])
    runs = np.sort(np.where(within, runs, 0), axis=1)
    inked, inside = np.count_nonzero(runs, axis=1), np.count_nonzero(within, axis=1)
    typical = np.take_along_axis(runs, (width - 1 - 3 * inked // 4)[:, None], axis=1)[:, 0]
    return inked / np.maximum(inside, 1), typical, inside


def _thin(mask: Mask) -> int:
    """Return how many pixels thick a ruled line may be."""
    return int(max(LEAST_THIN, round(THIN * min(mask.shape))))


def _marks(edge: Mask, thin: int) -> tuple[int, Ints]:
    """Return the column that meets the most lines, and the middles of its runs of at most twice `thin` pixels."""
    column = int(np.count_nonzero(edge[1:] != edge[:-1], axis=0).argmax())
    ends = np.flatnonzero(np.diff(np.concatenate([[False], edge[:, column], [False]])))
    starts, stops = ends[::2], ends[1::2]
    return column, ((starts + stops - 1) // 2)[stops - starts <= 2 * thin]


def _vertical_runs(mask: Mask) -> Ints:
    """Return for each True pixel the length of the vertical run that it belongs to; 0 elsewhere."""
    columns = np.zeros((mask.shape[1], mask.shape[0] + 1), np.bool_)
    columns[:, :-1] = mask.T
    line = columns.ravel()
    edges = np.flatnonzero(np.diff(line, prepend=False))
    lengths = np.zeros(line.size, np.intp)
    runs = edges[1::2] - edges[::2]
    lengths[line] = np.repeat(runs, runs)
    return lengths.reshape(columns.shape)[:, :-1].T
