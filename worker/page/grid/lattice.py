"""Chooses the lines of a table among the paths that were followed across it, and finds where they cross."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

from worker.image.arrays import Floats32, Grey, Ints, Mask
from worker.page.grid.ruled_lines import NEAR, STEP, THICK, THIN, bridged, evidence, follow_lines, inked, unbroken
from worker.page.grid.sudoku import ten_lines
from worker.page.opencv import opencv

#: A line is inked along this share of its way: digits below each other are not, they keep off the lines between them.
INKED = 0.65
#: It is at least as long as this share of the view.
LEAST_LENGTH = 0.4
#: It shows in unbroken stretches along this share of the view.
LEAST_SHOWN = 0.3
#: Lines are not near to each other along more than this share of the view.
TOGETHER = 0.15
#: A table has at least two rows and two columns.
LEAST_LINES = 3
#: This share of an outer line shows, and of the ends of the others there.
CLOSED = 0.7
#: A sudoku lacks more of single lines, but of an outer one this share shows, and as many of the others reach it.
REACHED = 0.5
#: The median line is off a cubic by at most this many pixels: paths through grass or grain are by two.
ROUGH = 1.25
#: Lines end at the outer ones: beyond them, less than this share of a cell shows. Squared paper goes on.
BEYOND = 0.5
#: Digits are written into cells, not across lines: ink, at least so dark, crosses at most this share of their way.
LEAST_ACROSS, CROSSED = 12.0, 0.07


class Side(NamedTuple):
    """The lines in one direction: their rows float32 [lines, n], and where there is ink on them, bool [lines, W]."""

    lines: Floats32
    on: Mask

    def chosen(self, which: Mask | Ints) -> Side:
        """Return some of the lines."""
        return Side(self.lines[which], self.on[which])

    def pieces(self, crossed: Floats32) -> tuple[Floats32, float]:
        """Return how much of the pieces between crossings is inked, and how far lines go on beyond the outer ones.

        `crossed` [lines, others] has the coordinates of the crossings along the lines; the pieces are from 0 to 1,
        float32 [lines, others - 1]. What is beyond is in cells.
        """
        ends = np.rint(crossed).clip(0, self.on.shape[1] - 1).astype(np.intp)
        lines = list(zip(self.on, ends.tolist(), strict=True))
        pieces = [[line[a : max(a, b) + 1].mean() for a, b in itertools.pairwise(row)] for line, row in lines]
        before = np.median([line[: max(0, row[0] - STEP)].sum() for line, row in lines])
        after = np.median([line[row[-1] + STEP :].sum() for line, row in lines])
        cell = (ends[:, -1] - ends[:, 0]).mean() / (ends.shape[1] - 1)
        return np.array(pieces, np.float32), float(max(before, after) / max(cell, 1.0))

    def roughness(self, crossed: Floats32) -> float:
        """Return by how many pixels the median line is off the cubic through it, on average, between the crossings."""
        first, last = ((crossed[:, [0, -1]].mean(axis=0) - STEP // 2) / STEP).astype(np.intp).tolist()
        lines = self.lines[:, max(first, 0) : max(last + 1, first + 5)]
        columns = np.linspace(-1, 1, lines.shape[1])
        cubics = np.polynomial.polynomial.polyfit(columns, lines.T, 3)
        smooth = np.polynomial.polynomial.polyval(columns, cubics)
        return float(np.median(np.abs(lines - smooth).mean(axis=1)))


def lattice_of(flat: Grey, margin: int) -> Floats32 | None:
    """Return the crossings [rows + 1, columns + 1, 2] of the table's lines, x before y; None if it has no cells.

    `flat` is the view of a table from straight above, with a margin of that many pixels around its outline. Where ten
    lines in each direction are evenly spaced, they are a sudoku's: others are rows of digits, or folds.
    """
    found = _chosen(flat, margin)
    if found is None or max(_crossed(flat, found), _crossed(flat.T, found.swapaxes(0, 1)[..., ::-1])) > CROSSED:
        return None
    return found


def _chosen(flat: Grey, margin: int) -> Floats32 | None:
    """Return the crossings of what may be a table, or squared paper."""
    views, shown, paths, runs = (flat, np.ascontiguousarray(flat.T)), [], [], []
    for view in views:
        shown.append(evidence(view))
        lines = follow_lines(shown[-1])
        runs.append(unbroken(shown[-1], lines))
        paths.append(bridged(lines, runs[-1]))
        if np.count_nonzero(runs[-1].mean(axis=1) >= LEAST_SHOWN) < LEAST_LINES:
            return None
    inside = slice(margin // STEP, -(margin // STEP) or None)
    whole = [run[:, inside].mean(axis=1, dtype=np.float32) for run in runs]
    nine = [ten_lines(path, share, len(one)) for path, share, one in zip(paths, whole, shown, strict=True)]
    if nine[0] is not None and nine[1] is not None:
        found = _sudoku(Side(nine[0], inked(views[0], nine[0])), Side(nine[1], inked(views[1], nine[1])))
        if found is not None:
            return found
    return _table(*(_long_lines(*one) for one in zip(views, paths, runs, strict=True)))


def _long_lines(view: Grey, paths: Floats32, runs: Mask) -> Side:
    """Return the paths that are inked from where they first show to where they last show, and long enough.

    Of paths that run together for a while, the one that is inked most is the line; the others leave it for digits.
    """
    on = inked(view, paths, runs)
    columns = STEP * np.arange(runs.shape[1])
    first = np.where(runs, columns, view.shape[1]).min(axis=1, initial=view.shape[1])
    last = np.where(runs, columns + STEP, 0).max(axis=1, initial=0)
    shares = np.array([line[a:b].mean() if a < b else 0.0 for line, a, b in zip(on, first, last, strict=True)])
    shares *= (last - first >= LEAST_LENGTH * view.shape[1]) & (shares >= INKED)
    kept: list[int] = []
    for line in np.argsort(-shares).tolist():
        near = [(np.abs(paths[line] - paths[other]) < NEAR / 2).mean() for other in kept]
        if shares[line] and max(near, default=0.0) <= TOGETHER:
            kept.append(line)
    return Side(paths, on).chosen(np.sort(np.array(kept, np.intp)))


def _sudoku(across: Side, down: Side) -> Floats32 | None:
    """Return the crossings of a sudoku's lines; None if too few of their pieces show, as with the edges of paper."""
    found = crossings(across.lines, down.lines)
    (one, beyond), (other, below) = across.pieces(found[..., 0]), down.pieces(found[..., 1].T)
    outer = min(float(_closed(*pair)[[0, -1]].min()) for pair in ((one, other), (other, one)))
    if min(float(one.mean()), float(other.mean())) < CLOSED or outer < REACHED or max(beyond, below) > BEYOND:
        return None
    return found if _is_smooth(across, down, found) else None


def _table(across: Side, down: Side) -> Floats32 | None:
    """Return the crossings of the lines that bound cells; None if they make no table.

    Lines that are open between crossings, and outer ones that the others do not reach, are left out, the worst first.
    """
    while min(len(across.lines), len(down.lines)) >= LEAST_LINES:
        found = crossings(across.lines, down.lines)
        (one, beyond), (other, below) = across.pieces(found[..., 0]), down.pieces(found[..., 1].T)
        closed = one.mean(axis=1), other.mean(axis=1)
        if min(map(np.min, closed)) >= INKED:
            closed = _closed(one, other), _closed(other, one)
        if min(map(np.min, closed)) >= CLOSED:
            return found if max(beyond, below) <= BEYOND and _is_smooth(across, down, found) else None
        if closed[0].min() <= closed[1].min():
            across = across.chosen(np.arange(len(across.lines)) != closed[0].argmin())
        else:
            down = down.chosen(np.arange(len(down.lines)) != closed[1].argmin())
    return None


def _is_smooth(across: Side, down: Side, found: Floats32) -> bool:
    return max(across.roughness(found[..., 0]), down.roughness(found[..., 1].T)) <= ROUGH


def _crossed(flat: Grey, found: Floats32) -> float:
    """Return the share of the way along the lines from left to right on which ink runs across them, off the crossings.

    Ink runs across where it is half as dark as the line, or more, on both sides of it, near and further off: digits
    close to a line leave paper beside it.
    """
    soft, across, total = opencv().blur(flat, (3, 3)).astype(np.float32), 0, 1
    for line in found:
        x = np.arange(line[0, 0] + THICK, line[-1, 0] - THICK, STEP // 2).astype(np.intp)
        x = x[np.abs(x[:, None] - line[:, 0]).min(axis=1, initial=np.inf) > THICK]
        y = np.rint(np.interp(x, line[:, 0], line[:, 1])).astype(np.intp)
        x, y = (one[(y >= THICK) & (y < len(soft) - THICK)] for one in (x, y))
        beside = np.minimum.reduce([soft[y + by, x] for by in (-THICK, -THIN, THIN, THICK)])
        across += int(np.count_nonzero(beside > max(LEAST_ACROSS, np.median(soft[y, x]) / 2))) if len(x) else 0
        total += len(x)
    return across / total


def _closed(pieces: Floats32, others: Floats32) -> Floats32:
    """Return the share of each line's pieces that show; for the outer ones at most that of the others' ends there."""
    closed = pieces.mean(axis=1)
    closed[[0, -1]] = np.minimum(closed[[0, -1]], others[:, [0, -1]].mean(axis=0))
    return np.asarray(closed, np.float32)


def crossings(across: Floats32, down: Floats32) -> Floats32:
    """Return where lines from left to right, [rows + 1, n], cross those from top to bottom, [columns + 1, m].

    Going to and fro between both lines converges in a few rounds, because they are nearly level and upright.
    """
    middles = STEP // 2 + STEP * np.arange(max(across.shape[1], down.shape[1]))
    x = np.tile(down.mean(axis=1), (len(across), 1))
    for _ in range(4):
        y = np.array([np.interp(at, middles[: len(line)], line) for at, line in zip(x, across, strict=True)])
        x = np.array([np.interp(at, middles[: len(line)], line) for at, line in zip(y.T, down, strict=True)]).T
    return np.stack([x, y], axis=-1).astype(np.float32)
