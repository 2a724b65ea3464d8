"""Removes ruling from the ink of a page, and leaves the strokes that cross it or lie along it."""

from __future__ import annotations

import numpy as np

from worker.image.arrays import Grey, Mask
from worker.page.ink import Ink, stroke_width
from worker.page.opencv import opencv
from worker.page.rules import find_rules

#: The pen is at least this many times as dark as pale ruling; what lies on that is pen from this share of the way from
#: the one level to the other.
PALE, DARK = 1.4, 0.6
#: There is a pen that dark if this share of the ink is, beside the ruling that was found.
PEN = 0.25
#: Beside ruling of which the pen is this many times as dark, ink is the pen's from that share of the way.
PALER, PENS = 2.0, 0.4


def unruled(ink: Ink) -> tuple[Mask, Mask]:
    """Return the ink without ruling, frames and long underlines, and these: both bool [H, W].

    Print is often paler than the pen: the foot of a 2 may lie on a line, and what is as pale as the lines that were
    found is another. Lines as dark as the ink stay as they are.
    """
    rules = find_rules(ink.faint, ink.stroke)
    mask = ink.mask & ~rules
    if not rules.any() or not mask.any():
        return mask, rules
    line = float(np.median(ink.level[rules]))
    pen = _pen(ink.level[mask], line)
    if pen >= PALE * line:
        rules = _without_strokes(rules, stroke_width(mask), ink.level >= DARK * pen + (1 - DARK) * line)
        mask = ink.mask & ~rules
    if pen >= PALER * line:
        dark = mask & (ink.level >= PENS * pen + (1 - PENS) * line)
        mask &= opencv().dilate(dark.view(np.uint8), np.ones((3, 3), np.uint8)) > 0
    return _bridged(mask, rules), rules


def _pen(levels: Grey, line: float) -> float:
    """Return the level of the pen among those of ink, uint8 [n]: much of it may be ruling of level `line` still."""
    dark = levels[levels >= PALE * line]
    return float(np.median(dark if len(dark) >= PEN * len(levels) else levels))


def _without_strokes(rules: Mask, width: float, dark: Mask) -> Mask:
    """Return the ruling, bool [H, W], without strokes of this width along it, which are `dark`."""
    cv = opencv()
    there, length = (rules & dark).view(np.uint8), 2 * round(width) + 1
    along = (cv.morphologyEx(there, cv.MORPH_OPEN, np.ones(shape, np.uint8)) for shape in ((1, length), (length, 1)))
    kept: Mask = rules & (cv.max(*along) == 0)
    return kept


def _bridged(mask: Mask, rules: Mask) -> Mask:
    """Return the mask, bool [H, W] without ruling, with the ruling between two ends of strokes on both sides of it."""
    cv = opencv()
    reach = round(1.5 * stroke_width(rules)) + 3
    whole = mask.copy()
    for kernel in (np.ones((reach, 1), np.uint8), np.ones((1, reach), np.uint8)):
        whole |= rules & (cv.morphologyEx(mask.view(np.uint8), cv.MORPH_CLOSE, kernel) > 0)
    return whole
