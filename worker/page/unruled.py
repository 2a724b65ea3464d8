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


def unruled(ink: Ink) -> tuple[Mask, Mask]:
    """Return the ink without ruling, frames and long underlines, and these: both bool [H, W]."""
    rules = _without_strokes(find_rules(ink.faint, ink.stroke), ink.mask, ink.level)
    return _bridged(ink.mask & ~rules, rules), rules


def _without_strokes(rules: Mask, mask: Mask, level: Grey) -> Mask:
    """Return the ruling, bool [H, W], without strokes along it, which have the level of the other ink in `mask`.

    Print is often paler than the pen: the foot of a 2 may lie on a line. Lines as dark as the ink stay as they are.
    """
    ink = mask & ~rules
    if not rules.any() or not ink.any():
        return rules
    line, pen = float(np.median(level[rules])), float(np.median(level[ink]))
    if pen < PALE * line:
        return rules
    cv = opencv()
    dark = (rules & (level >= DARK * pen + (1 - DARK) * line)).view(np.uint8)
    length = 2 * round(stroke_width(ink)) + 1
    along = (cv.morphologyEx(dark, cv.MORPH_OPEN, np.ones(shape, np.uint8)) for shape in ((1, length), (length, 1)))
    kept: Mask = rules & (cv.max(*along) == 0)
    return kept


def _bridged(mask: Mask, rules: Mask) -> Mask:
    """Return the mask, bool [H, W] without ruling, with the ruling between two ends of strokes on both sides of it."""
    if not rules.any():
        return mask
    cv = opencv()
    reach = round(1.5 * stroke_width(rules)) + 3
    whole = mask.copy()
    for kernel in (np.ones((reach, 1), np.uint8), np.ones((1, reach), np.uint8)):
        whole |= rules & (cv.morphologyEx(mask.view(np.uint8), cv.MORPH_CLOSE, kernel) > 0)
    return whole
