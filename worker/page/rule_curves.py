"""Follows one line across a page: a smooth curve with a thickness, in rows of each column."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from worker.image.arrays import Floats64, Ints, Mask

#: A line is inked along this share of its columns ...
INKED = 0.65
#: ... and is straight but for paper that bends: this share of its columns lies within its thickness of a cubic.
STRAIGHT = 0.7


class Rule(NamedTuple):
    """A line from left to right."""

    rows: Floats64  # its row in each column of a picture
    thickness: float  # in pixels


def fitted(thin: Mask) -> Rule | None:
    """Fit a cubic to the middles of the columns of a long thin piece, bool [h, w]; None if it is not straight.

    Strokes that hang on the line are left out step by step.
    """
    count, width = thin.sum(axis=0), thin.shape[1]
    columns = np.flatnonzero(count)
    middles = (np.arange(len(thin)) @ thin)[columns] / count[columns]
    thickness = max(1.0, float(np.median(count[columns])))
    if len(columns) < INKED * width:
        return None
    kept = np.ones(len(columns), np.bool_)
    curve = np.zeros(4)
    for tolerance in (6 * thickness, 3 * thickness, 1.5 * thickness + 1):
        if np.count_nonzero(kept) < max(8.0, 0.5 * STRAIGHT * len(columns)) or np.ptp(columns[kept]) < 0.5 * width:
            return None
        curve = np.polyfit(columns[kept] / width, middles[kept], 3)
        kept = np.abs(np.polyval(curve, columns / width) - middles) <= tolerance
    if np.count_nonzero(kept) < STRAIGHT * len(columns):
        return None
    thickness = max(1.0, float(np.median(count[columns][kept])))
    return Rule(np.polyval(curve, np.arange(width) / width), thickness)


def extended(rule: Rule, left: int, top: int, columns: Ints) -> Rule:
    """Continue a line, found in a box at `left` and `top`, straight on to both sides of the page.

    It may go on where ink that it meets, or light, hid it.
    """
    rows, end = rule.rows + top, min(len(rule.rows) // 2, 200)
    inside = np.interp(columns, np.arange(left, left + len(rows)), rows)
    before = (rows[end] - rows[0]) / end * np.minimum(columns - left, 0)
    after = (rows[-1] - rows[-1 - end]) / end * np.maximum(columns - left - len(rows) + 1, 0)
    return rule._replace(rows=inside + before + after)


def tracked(thin: Mask, rule: Rule) -> Rule:
    """Shift a line to the thin ink along it, by the median over a stretch of columns: paper bends."""
    columns = np.arange(thin.shape[1])
    rows, inside = beside(rule, round(1.2 * rule.thickness) + 2, len(thin))
    ink = thin[rows, columns] & inside
    count = ink.sum(axis=0)
    used = np.flatnonzero(count)
    if not used.size:
        return rule
    steps = np.arange(len(rows)) - len(rows) // 2
    shifts = np.interp(columns, used, (steps @ ink)[used] / count[used])
    stretch = max(1, len(columns) // 40)
    padded = np.pad(shifts, stretch, "edge")
    at = np.arange(0, len(columns), max(1, stretch // 4))
    medians = np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * stretch + 1)[at], axis=1)
    return rule._replace(rows=rule.rows + np.interp(columns, at, medians))


def beside(rule: Rule, reach: int, height: int) -> tuple[Ints, Mask]:
    """Return the rows up to `reach` above and below a line in each column, [2 reach + 1, W], and which are inside."""
    rows = np.rint(rule.rows).astype(np.intp) + np.arange(-reach, reach + 1)[:, None]
    return rows.clip(0, height - 1), (rows >= 0) & (rows < height)
