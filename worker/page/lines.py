"""Groups the marks of a page into lines of text."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from worker.image.arrays import Floats64, Ints
from worker.page.marks import Marks

#: A mark's right neighbour on a line shares this part of the smaller one's height, is at most REACH heights away, and
#: is at most RATIO times as high or as low.
SHARED, REACH, RATIO = 0.4, 3.0, 2.5
#: Two runs of neighbours are on one line if the lower one shares this part of its height with the other.
SAME = 0.55
#: One or two marks lower than RAISED of a mark's height, within BESIDE of its height to the right of it and within OVER
#: above or below it, are on its line too: exponents and indices. Two with others of its line in this share of their
#: columns are a short line of their own.
RAISED, BESIDE, OVER, BENEATH = 0.9, 0.6, 0.6, 0.5
#: A dash or a dot belongs to a line if its middle is within this many heights of the line's marks.
NEAR = 0.7

#: Lines of marks lower than this many pixels, or this share of the page's common height, are specks.
LEAST, LOW = 8, 0.3


class Line(NamedTuple):
    """A line of text: its marks from left to right, by position, and the height of a digit on it in pixels."""

    marks: Ints
    height: float


def find_lines(marks: Marks, lean: float) -> list[Line]:
    """Group marks into lines from top to bottom, on a page whose lines lean by `lean` degrees.

    Marks without neighbours are lines too. More than a few thousand marks take long: the time grows with their square.
    """
    x, y = marks.middle
    y = y - x * np.tan(np.radians(lean))
    low, high = y - marks.height / 2, y + marks.height / 2
    tall = np.flatnonzero(~marks.flat)
    if not tall.size:
        return []
    runs = _runs(tall, marks, low, high)
    runs = _with_raised(runs, marks, low, high)
    rows = _joined([_band(run, low, high) for run in runs], runs)
    rows.sort(key=lambda row: float(np.median(y[row])))
    rest = np.flatnonzero(marks.flat)
    lines, common = [], _digit_height(marks.height[tall])
    for row in _with_dashes(rows, rest, marks, y):
        height = _digit_height(marks.height[row][~marks.flat[row]])
        if height >= max(LEAST, LOW * common):
            lines.append(Line(row[np.argsort(x[row], kind="stable")], height))
    return lines


def _runs(tall: Ints, marks: Marks, low: Floats64, high: Floats64) -> list[Ints]:
    """Join each of the marks `tall` with its nearest right neighbour; return the connected ones."""
    left, right, height = marks.left[tall], marks.right[tall], marks.height[tall].astype(np.float64)
    parents = list(range(len(tall)))
    for at in range(len(tall)):
        one = tall[at]
        shared = np.minimum(high[tall], high[one]) - np.maximum(low[tall], low[one])
        smaller, larger = np.minimum(height, height[at]), np.maximum(height, height[at])
        gap = left - right[at]
        fits = (shared >= SHARED * smaller) & (larger <= RATIO * smaller) & (gap <= REACH * larger)
        fits &= left + right > left[at] + right[at]
        if fits.any():
            near = np.flatnonzero(fits)
            _join(parents, at, int(near[gap[near].argmin()]))
    return _groups(parents, tall)


def _with_raised(runs: list[Ints], marks: Marks, low: Floats64, high: Floats64) -> list[Ints]:
    """Join exponents and indices, runs of one or two low marks, with the run of the mark left of them."""
    run_of = np.zeros(len(low), np.intp)
    for at, run in enumerate(runs):
        run_of[run] = at
    every, parents = np.concatenate(runs), list(range(len(runs)))
    left, right, height = marks.left[every], marks.right[every], high[every] - low[every]
    for at, run in enumerate(runs):
        first = run[marks.left[run].argmin()]
        if len(run) > 2:
            continue
        gap = marks.left[first] - right
        fits = (gap > -0.3 * height) & (gap <= BESIDE * height) & (high[first] - low[first] <= RAISED * height)
        fits &= (
            (high[first] > low[every] - OVER * height)
            & (low[first] < high[every] + OVER * height)
            & (left < marks.left[first])
        )
        fits &= run_of[every] != at
        if fits.any():
            near = np.flatnonzero(fits)
            base = int(run_of[every[near[gap[near].argmin()]]])
            if len(run) < 2 or _beneath(run, runs[base], marks) < BENEATH:
                _join(parents, at, base)
    grouped: dict[int, list[Ints]] = {}
    for at, run in enumerate(runs):
        grouped.setdefault(_root(parents, at), []).append(run)
    return [np.concatenate(group) for group in grouped.values()]


def _beneath(run: Ints, line: Ints, marks: Marks) -> float:
    """Return the share of the columns of a run that marks of a line take too."""
    left, right = marks.left[run].min(), marks.right[run].max()
    shared = np.minimum(marks.right[line], right) - np.maximum(marks.left[line], left)
    return float(np.maximum(shared, 0).sum() / max(right - left, 1))


def _joined(bands: list[tuple[float, float]], runs: list[Ints]) -> list[Ints]:
    """Join runs of marks that are on one line, however far apart."""
    parents = list(range(len(runs)))
    order = sorted(parents, key=lambda run: -len(runs[run]))
    for place, one in enumerate(order):
        for other in order[:place]:
            shared = min(bands[one][1], bands[other][1]) - max(bands[one][0], bands[other][0])
            heights = bands[one][1] - bands[one][0], bands[other][1] - bands[other][0]
            if shared >= SAME * min(heights) and max(heights) <= RATIO * min(heights):
                _join(parents, one, other)
                break
    grouped: dict[int, list[Ints]] = {}
    for run, marks in enumerate(runs):
        grouped.setdefault(_root(parents, run), []).append(marks)
    return [np.concatenate(group) for group in grouped.values()]


def _band(run: Ints, low: Floats64, high: Floats64) -> tuple[float, float]:
    """Return the rows in which most of a run of marks lies."""
    return float(np.median(low[run])), float(np.median(high[run]))


def _with_dashes(rows: list[Ints], rest: Ints, marks: Marks, y: Floats64) -> list[Ints]:
    """Add each of the marks `rest` to the line that it lies on, if any."""
    heights = [_digit_height(marks.height[row]) for row in rows]
    added: list[list[int]] = [[] for _ in rows]
    for mark in rest.tolist():
        best, off = -1, NEAR
        for at, row in enumerate(rows):
            inside = marks.left[row].min() - heights[at] < marks.left[mark] < marks.right[row].max() + heights[at]
            beside = np.abs(y[row] - y[mark]).min() / heights[at]
            if inside and beside < off:
                best, off = at, float(beside)
        if best >= 0:
            added[best].append(mark)
    return [np.concatenate([row, np.array(more, np.intp)]) for row, more in zip(rows, added, strict=True)]


def _digit_height(heights: Ints) -> float:
    """Return the height of a digit: the median of the marks that are at least half as high as the highest common."""
    common = float(np.quantile(heights, 0.8))
    large = heights[heights >= 0.5 * common]
    return float(np.median(large))


def _groups(parents: list[int], members: Ints) -> list[Ints]:
    grouped: dict[int, list[int]] = {}
    for at in range(len(parents)):
        grouped.setdefault(_root(parents, at), []).append(int(members[at]))
    return [np.array(group, np.intp) for group in grouped.values()]


def _join(parents: list[int], one: int, other: int) -> None:
    parents[_root(parents, one)] = _root(parents, other)


def _root(parents: list[int], at: int) -> int:
    while parents[at] != at:
        parents[at] = at = parents[parents[at]]
    return at
