"""Finds ruling, the lines of squared paper, frames and long underlines among the ink of a page."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from worker.image.arrays import Mask
from worker.page.opencv import opencv
from worker.page.rule_curves import Rule, beside, extended, fitted, tracked

#: A line is at most this thick, in strokes of the page, or LEAST_THICK pixels ...
THICK, LEAST_THICK = 1.6, 4
#: ... at least this long, in pixels a pixel of thickness, and as a share of the page's longer side; that counts for
#: lines thinner than THINNER strokes of the page; others have LONGER of it, or cross it, since digits in a row have
#: level strokes ...
LONG, LEAST_SHARE, THINNER, LONGER = 25, 0.12, 0.7, 0.3
#: ... unless this many others were found that are at most ALIKE times less thick ...
RULED, ALIKE = 3, 1.3
#: ... and leans by at most this slope (30 degrees).
LEAN = 0.58
#: Lines are sought at half the size on pages of a longer side than this.
LARGE = 1400
#: A line ends where there is no ink along it for more than this many times its thickness, and as many pixels.
GAP = 4


class _Piece(NamedTuple):
    """A line, and the columns where it was found: from `first` to before `last`."""

    rule: Rule
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
        _mark_rule(found, mask, short[longest], piece._replace(rule=tracked(thin, piece.rule)))
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
    return _Piece(Rule(rows, max(1.0, thickness * step - 1)), piece.first * step, piece.last * step)


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
    """Find straight long pieces of short vertical runs with gaps of at most that many pixels."""
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
        rule = fitted((labels[box] == part) & thin[box])
        if rule is not None:
            found.append(_Piece(extended(rule, left, top, np.arange(thin.shape[1])), left, left + wide))
    return found


def _short_runs(mask: Mask, longest: int) -> Mask:
    """Return the pixels whose vertical run is at most `longest` pixels: those that an opening by more removes."""
    cv = opencv()
    kernel = np.ones((longest + 1, 1), np.uint8)
    opened = cv.morphologyEx(mask.view(np.uint8), cv.MORPH_OPEN, kernel, borderType=cv.BORDER_CONSTANT, borderValue=0)
    found: Mask = mask & (opened == 0)
    return found


def _mark_rule(found: Mask, mask: Mask, short: Mask, piece: _Piece) -> None:
    """Mark the pixels of a line in `found`, bool [H, W]: those of `short`, short vertical runs of the mask, near it.

    The line goes on to both sides of where it was found until there is no ink along it for a while.
    """
    rule = piece.rule
    columns = np.arange(mask.shape[1])
    rows, inside = beside(rule, round(rule.thickness / 2 + 2), len(mask))
    inked = np.flatnonzero((mask[rows, columns] & inside).any(axis=0))
    if not inked.size:
        return
    gaps = np.diff(inked) > GAP * rule.thickness + GAP
    before, after = inked[1:][gaps & (inked[1:] <= piece.first)], inked[:-1][gaps & (inked[:-1] >= piece.last - 1)]
    first, last = before[-1] if before.size else inked[0], after[0] if after.size else inked[-1]
    inside &= (columns >= first) & (columns <= last)
    there = short[rows, columns] & inside
    found[rows[there], np.broadcast_to(columns, rows.shape)[there]] = True
