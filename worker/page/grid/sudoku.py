"""Tells a sudoku's lines by their even spacing, and puts right what was lost of them."""

from __future__ import annotations

import numpy as np

from worker.image.arrays import Floats32, Ints, Mask
from worker.page.opencv import opencv

#: A sudoku has this many lines in each direction.
LINES = 10
#: They are evenly spaced within this share of a cell and fill this share of the view; a line further on at about the
#: same distance makes it a larger table.
EVEN, FILLED = 0.33, 0.8
#: They show in unbroken stretches along this share of their way, so many of them at least; the others are put between.
WHOLE, SEEN = 0.6, 8
#: With so many other lines that show as well between them, it is squared paper.
OTHERS = 2
#: A crossing is wrong if it is off by this much more than those around it, in cells.
OUT_OF_LINE = 0.3


def ten_lines(paths: Floats32, whole: Floats32, height: int) -> Floats32 | None:
    """Return ten evenly spaced lines [10, n] of the paths [lines, n] in a view of that height, if there are such.

    `whole` [lines] is the share of each path that shows. Each pair of paths may be the first and the last line.
    """
    level = paths.mean(axis=1)
    ends = [(a, b) for a in range(len(paths)) for b in range(a, len(paths)) if level[b] - level[a] >= FILLED * height]
    choices = [_choice(paths, whole, first, last) for first, last in ends]
    score, nearest, seen = max(choices, key=lambda choice: choice[0], default=(0.0, np.zeros(LINES, np.intp), None))
    if seen is None or score <= 0 or _goes_on(level, whole, nearest):
        return None
    ideal = _between(paths[nearest[0]], paths[nearest[-1]])
    offset, numbers = (paths[nearest] - ideal)[seen], np.arange(LINES)
    drift = [np.interp(numbers, numbers[seen], column) for column in offset.T]
    return np.asarray(ideal + np.transpose(drift), np.float32)


def _between(first: Floats32, last: Floats32) -> Floats32:
    """Return ten evenly spaced lines [10, n] from the first to the last."""
    return np.asarray(first + np.linspace(0, 1, LINES)[:, None] * (last - first), np.float32)


def _choice(paths: Floats32, whole: Floats32, first: int, last: int) -> tuple[float, Ints, Mask]:
    """Return how good ten lines from the first path to the last are, the nearest path to each, and which were seen.

    The best have most lines seen, most evenly, and fewest others between. 0 if too few are seen, or too many others.
    """
    ideal = _between(paths[first], paths[last])
    apart = np.median(np.abs(paths[None, first : last + 1] - ideal[:, None]), axis=2)
    nearest = first + apart.argmin(axis=1)
    apart = apart.min(axis=1) * (LINES - 1) / (paths[last] - paths[first]).mean()
    seen = (apart <= EVEN) & (whole[nearest] >= WHOLE)
    shown = float(whole[nearest[seen]].sum())
    others = np.delete(whole[first : last + 1], np.unique(nearest[seen]) - first)
    score = shown - float(others.sum()) / 2 - 2 * float(apart[seen].sum())
    told = seen.sum() >= SEEN and np.count_nonzero(others >= WHOLE) < OTHERS
    return score if told else 0.0, nearest, seen


def _goes_on(level: Floats32, whole: Floats32, nearest: Ints) -> bool:
    """Tell whether a line follows beyond the first or last of the ten at their distance."""
    first, last = level[nearest[0]], level[nearest[-1]]
    beyond = np.maximum(first - level, level - last) * (LINES - 1) / (last - first)
    return bool(np.any((np.abs(beyond - 1) <= EVEN) & (whole >= WHOLE)))


def evened(crossings: Floats32) -> Floats32:
    """Return the crossings [10, 10, 2] of a sudoku, with those put right that are out of line with the ones around.

    All are compared with the perspective in which most are evenly spaced: on curved paper they are off by about as much
    as the crossings within two cells. A line that leaves the picture, or is pale, may have been lost to another.
    """
    cv = opencv()
    even = np.stack(np.meshgrid(np.arange(LINES), np.arange(LINES)), axis=-1).astype(np.float32)
    cell = float(np.ptp(crossings[..., 0])) / (LINES - 1)
    view, _ = cv.findHomography(even.reshape(-1, 2), crossings.reshape(-1, 2), cv.RANSAC, 0.1 * cell)
    if view is None:
        return crossings
    plane = cv.perspectiveTransform(even, view)
    off = np.pad(crossings - plane, ((2, 2), (2, 2), (0, 0)), constant_values=np.nan)
    around = np.nanmedian(np.lib.stride_tricks.sliding_window_view(off, (5, 5), axis=(0, 1)), axis=(3, 4))
    wrong = np.abs(crossings - plane - around).max(axis=2, keepdims=True) > OUT_OF_LINE * cell
    return np.where(wrong, plane + around, crossings).astype(np.float32)
