"""Whether what was taken for one digit is a column of several, which touch or stand close."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]

#: What is so many times as high as wide, and in so much of its rows has two strokes or more, is a column of digits.
CHAIN, LOOPED = 3, 0.25
#: Two things one above the other are two digits if they are together so many times as high as wide.
STACK = 1.9


def is_chain(kept: Mask) -> bool:
    """Whether this is a column of digits that touch: too long for a digit but a 1, and a 1 has no loops and bays."""
    rows, columns = np.flatnonzero(kept.any(axis=1)), np.flatnonzero(kept.any(axis=0))
    if len(rows) < 12 or rows[-1] - rows[0] + 1 < CHAIN * (columns[-1] - columns[0] + 1):
        return False
    starts = kept[rows, 0].astype(np.intp) + np.count_nonzero(kept[rows, 1:] & ~kept[rows, :-1], axis=1)
    return bool(np.count_nonzero(starts > 1) >= LOOPED * len(rows))


def is_stack(kept: Mask) -> bool:
    """Whether an empty row, of pixels, parts two digits: both upright, about as high, one above or beyond the other.

    A digit whose stroke is broken half way is not twice as high as wide, unless it is a 1, whose halves are narrow.
    """
    filled = np.flatnonzero(kept.any(axis=1))
    if not len(filled):
        return False
    first, last = int(filled[0]), int(filled[-1])
    gaps = np.flatnonzero(np.diff(filled) > 1)
    for top, bottom in ((kept[first : filled[at] + 1], kept[filled[at + 1] : last + 1]) for at in gaps):
        heights = len(top), len(bottom)
        spans = [np.flatnonzero(half.any(axis=0)) for half in (top, bottom)]
        widths = [int(span[-1] - span[0]) + 1 for span in spans]
        if min(heights) < 0.65 * max(heights) or any(h < 0.8 * w for h, w in zip(heights, widths, strict=True)):
            continue
        beyond = spans[0][0] > spans[1][-1] or spans[1][0] > spans[0][-1]
        if beyond or (sum(heights) >= STACK * max(widths) and max(widths) >= 0.3 * max(heights)):
            return True
    return False
