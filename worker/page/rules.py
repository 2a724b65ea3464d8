"""Finds ruling, the lines of squared paper, frames and long underlines among the ink of a page."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from worker.image.arrays import Floats64, Ints, Mask
from worker.page.opencv import opencv

#: A line is at most this thick, in strokes of the page, or LEAST_THICK pixels ...
THICK, LEAST_THICK = 1.6, 4
#: ... at least this long, in pixels a pixel of thickness, and as a share of the page's longer side; that counts for
#: lines thinner than THINNER strokes of the page; others have LONGER of it, or cross it, since digits in a row have
#: level strokes ...
LONG, LEAST_SHARE, THINNER, LONGER = 25, 0.12, 0.7, 0.3
#: ... unless this many others were found that are at most ALIKE times less thick ...
RULED, ALIKE = 3, 1.3
#: ... is inked along this share of its columns ...
INKED = 0.65
#: ... leans by at most this slope (30 degrees) ...
LEAN = 0.58
#: ... and is straight but for paper that bends: this share of its columns lies within its thickness of a cubic.
STRAIGHT = 0.7
#: Lines are sought at half the size on pages of a longer side than this.
LARGE = 1400
#: A line ends where there is no ink along it for more than this many times its thickness, and as many pixels.
GAP = 4


class _Rule(NamedTuple):
    """A line from left to right."""

    rows: Floats64  # its row in each column of a picture
    thickness: float  # in pixels


class _Piece(NamedTuple):
    """A line, and the columns where it was found: from `first` to before `last`."""

    rule: _Rule
    first: int
    last: int


def find_rules(mask: Mask, stroke: float) -> Mask:
    """Return the pixels of thin long lines that are nearly level or upright, of a mask bool [H, W].

    Strokes that cross a line stay whole: only runs across the line that are about as short as it is thick are returned.
    """
    across = _level_lines(mask, stroke)
    down = _level_lines(np.ascontiguousarray((mask & ~across).T), stroke).T
    return across | down


def _level_lines(mask: Mask, stroke: float) -> Mask:
    """Return the pixels of long lines from left to right, sought on a copy of half the size of a large page."""
    step = 2 if max(mask.shape) > LARGE else 1
    coarse = _pooled(mask, step)
    thick = round(max(LEAST_THICK, THICK * stroke / step))
    pieces = _rules(_short_runs(coarse, thick), thick, stroke / step)
    found = np.zeros_like(mask)
    if not pieces:
        return found
    thin = _short_runs(mask, step * thick)
    short = {step * thick: thin}
    for piece in (_scaled(piece, step, mask.shape[1]) for piece in pieces):
        longest = round(1.5 * piece.rule.thickness) + 1
        if longest not in short:
            short[longest] = _short_runs(mask, longest)
        _mark_rule(found, mask, short[longest], piece._replace(rule=_tracked(thin, piece.rule)))
    return found


def _pooled(mask: Mask, step: int) -> Mask:
    """Return the mask at half the size, if `step` is 2: a pixel is set if one of its four is."""
    if step == 1:
        return mask
    even = mask[: mask.shape[0] // 2 * 2, : mask.shape[1] // 2 * 2]
    rows = even[::2] | even[1::2]
    return rows[:, ::2] | rows[:, 1::2]


def _scaled(piece: _Piece, step: int, width: int) -> _Piece:
    """Return a line found on a copy of one `step`th of the size, on a page of this width."""
    if step == 1:
        return piece
    rows, thickness = piece.rule
    at = np.arange(len(rows)) * step + (step - 1) / 2
    rows = np.interp(np.arange(width), at, rows * step + (step - 1) / 2)
    return _Piece(_Rule(rows, max(1.0, thickness * step - 1)), piece.first * step, piece.last * step)


def _rules(thin: Mask, thick: int, stroke: float) -> list[_Piece]:
    """Find the lines from left to right among short vertical runs.

    On ruled paper shorter and more broken pieces count too, if they are as thin as the lines found.
    """
    longer = min(LONGER * max(thin.shape), 0.9 * thin.shape[1])
    pieces = _pieces(thin, thick, 2 * thick + 1)
    sure = [one for one in pieces if one.last - one.first >= longer or one.rule.thickness < THINNER * stroke]
    if len(sure) < RULED:
        return sure
    most = ALIKE * float(np.median([one.rule.thickness for one in sure]))
    return sure + [one for one in _pieces(thin, thick, 4 * thick + 1) if one.rule.thickness <= most]


def _pieces(thin: Mask, thick: int, gap: int) -> list[_Piece]:
    """Find straight long pieces of short vertical runs with gaps of at most so many pixels."""
    cv = opencv()
    joined = cv.morphologyEx(thin.view(np.uint8), cv.MORPH_CLOSE, np.ones((1, gap), np.uint8))
    _, labels, stats, _ = cv.connectedComponentsWithStats(joined, connectivity=8, ltype=cv.CV_32S)
    width, height, area = stats[:, cv.CC_STAT_WIDTH], stats[:, cv.CC_STAT_HEIGHT], stats[:, cv.CC_STAT_AREA]
    long = (width >= LONG * np.maximum(area / np.maximum(width, 1), 1)) & (width >= LEAST_SHARE * max(thin.shape))
    long &= height <= LEAN * width + 2 * thick
    found = []
    for part in (np.flatnonzero(long[1:]) + 1).tolist():
        left, top, wide, high = stats[part, : cv.CC_STAT_AREA].tolist()
        box = slice(top, top + high), slice(left, left + wide)
        rule = _fitted((labels[box] == part) & thin[box])
        if rule is not None:
            found.append(_Piece(_extended(rule, left, top, np.arange(thin.shape[1])), left, left + wide))
    return found


def _short_runs(mask: Mask, longest: int) -> Mask:
    """Return the pixels whose vertical run is at most `longest` pixels: those that an opening by more removes."""
    cv = opencv()
    kernel = np.ones((longest + 1, 1), np.uint8)
    opened = cv.morphologyEx(mask.view(np.uint8), cv.MORPH_OPEN, kernel, borderType=cv.BORDER_CONSTANT, borderValue=0)
    found: Mask = mask & (opened == 0)
    return found


def _fitted(thin: Mask) -> _Rule | None:
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
    return _Rule(np.polyval(curve, np.arange(width) / width), thickness)


def _extended(rule: _Rule, left: int, top: int, columns: Ints) -> _Rule:
    """Continue a line, found in a box at `left` and `top`, straight on to both sides of the page.

    It may go on where ink that it meets, or light, hid it.
    """
    rows, end = rule.rows + top, min(len(rule.rows) // 2, 200)
    inside = np.interp(columns, np.arange(left, left + len(rows)), rows)
    before = (rows[end] - rows[0]) / end * np.minimum(columns - left, 0)
    after = (rows[-1] - rows[-1 - end]) / end * np.maximum(columns - left - len(rows) + 1, 0)
    return rule._replace(rows=inside + before + after)


def _tracked(thin: Mask, rule: _Rule) -> _Rule:
    """Shift a line to the thin ink along it, by the median over a stretch of columns: paper bends."""
    columns = np.arange(thin.shape[1])
    rows, inside = _beside(rule, round(1.2 * rule.thickness) + 2, len(thin))
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


def _mark_rule(found: Mask, mask: Mask, short: Mask, piece: _Piece) -> None:
    """Mark the pixels of a line in `found`, bool [H, W]: those of `short`, short vertical runs of the mask, near it.

    The line goes on to both sides of where it was found until there is no ink along it for a while.
    """
    rule = piece.rule
    columns = np.arange(mask.shape[1])
    rows, inside = _beside(rule, round(rule.thickness / 2 + 2), len(mask))
    inked = np.flatnonzero((mask[rows, columns] & inside).any(axis=0))
    if not inked.size:
        return
    gaps = np.diff(inked) > GAP * rule.thickness + GAP
    before, after = inked[1:][gaps & (inked[1:] <= piece.first)], inked[:-1][gaps & (inked[:-1] >= piece.last - 1)]
    first, last = before[-1] if before.size else inked[0], after[0] if after.size else inked[-1]
    inside &= (columns >= first) & (columns <= last)
    there = short[rows, columns] & inside
    found[rows[there], np.broadcast_to(columns, rows.shape)[there]] = True


def _beside(rule: _Rule, reach: int, height: int) -> tuple[Ints, Mask]:
    """Return the rows up to `reach` above and below a line in each column, [2 reach + 1, W], and which are inside."""
    rows = np.rint(rule.rows).astype(np.intp) + np.arange(-reach, reach + 1)[:, None]
    return rows.clip(0, height - 1), (rows >= 0) & (rows < height)
