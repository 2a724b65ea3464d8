"""Recognises columns of digits, touching or close, that were segmented as one digit."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from worker.image.arrays import Mask

#: A column of touching digits is at least this many times as high as wide ...
CHAIN = 3
#: ... and this share of its rows crosses two strokes or more.
LOOPED = 0.25
#: Two parts, one above the other, are two digits if together they are this many times as high as wide.
STACK = 1.9


def is_chain(kept: Mask) -> bool:
    """Tell whether this is a column of touching digits: only a 1 is as long, and it has no loops or bays."""
    rows, columns = np.flatnonzero(kept.any(axis=1)), np.flatnonzero(kept.any(axis=0))
    if len(rows) < 12 or np.ptp(rows) + 1 < CHAIN * (np.ptp(columns) + 1):
        return False
    strokes = kept[rows, 0].astype(np.intp) + np.count_nonzero(kept[rows, 1:] & ~kept[rows, :-1], axis=1)
    return bool(np.count_nonzero(strokes > 1) >= LOOPED * len(rows))


def is_stack(kept: Mask) -> bool:
    """Tell whether an empty row of pixels separates two upright digits of similar height.

    They stand one above the other, or side by side. A digit with a stroke broken half way is not twice as high as wide,
    unless it is a 1, whose halves are narrow.
    """
    for halves in _halves(kept):
        heights = [len(half) for half in halves]
        columns = [np.flatnonzero(half.any(axis=0)) for half in halves]
        widths = [int(np.ptp(used)) + 1 for used in columns]
        if any(height < 0.8 * width for height, width in zip(heights, widths, strict=True)):
            continue
        beside = columns[0][0] > columns[1][-1] or columns[1][0] > columns[0][-1]
        if beside or (sum(heights) >= STACK * max(widths) and max(widths) >= 0.3 * max(heights)):
            return True
    return False


def is_split(kept: Mask) -> bool:
    """Tell whether an empty row splits it half way: a digit with a broken stroke, or two wide digits."""
    return any(True for _ in _halves(kept))


def _halves(kept: Mask) -> Iterator[tuple[Mask, Mask]]:
    """Yield the parts above and below each gap of empty rows, where they have similar heights."""
    filled = np.flatnonzero(kept.any(axis=1))
    for at in np.flatnonzero(np.diff(filled) > 1):
        top, bottom = kept[filled[0] : filled[at] + 1], kept[filled[at + 1] : filled[-1] + 1]
        if min(len(top), len(bottom)) >= 0.65 * max(len(top), len(bottom)):
            yield top, bottom
