"""Whether what was taken for one digit is a column of several, which touch or stand close."""

from __future__ import annotations

from collections.abc import Iterator

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
    for top, bottom in _halves(kept):
        heights = len(top), len(bottom)
        spans = [np.flatnonzero(half.any(axis=0)) for half in (top, bottom)]
        widths = [int(span[-1] - span[0]) + 1 for span in spans]
        if any(height < 0.8 * width for height, width in zip(heights, widths, strict=True)):
            continue
        beyond = spans[0][0] > spans[1][-1] or spans[1][0] > spans[0][-1]
        if beyond or (sum(heights) >= STACK * max(widths) and max(widths) >= 0.3 * max(heights)):
            return True
    return False


def is_parted(kept: Mask) -> bool:
    """Whether an empty row parts it half way: a digit whose stroke is broken, or two wide ones."""
    return any(True for _ in _halves(kept))


def _halves(kept: Mask) -> Iterator[tuple[Mask, Mask]]:
    """What is above and below each gap of empty rows, if both are about as high."""
    filled = np.flatnonzero(kept.any(axis=1))
    for at in np.flatnonzero(np.diff(filled) > 1):
        top, bottom = kept[filled[0] : filled[at] + 1], kept[filled[at + 1] : filled[-1] + 1]
        if min(len(top), len(bottom)) >= 0.65 * max(len(top), len(bottom)):
            yield top, bottom
