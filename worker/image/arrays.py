"""Array types of the image modules, and where arrays begin and end."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

#: Grey levels uint8 [H, W] or [n, H, W], 0 black to 255 white.
Grey = NDArray[np.uint8]
#: Bool [H, W], or one value for each of n things.
Mask = NDArray[np.bool_]
#: Whole numbers: component labels [H, W], from 1 and 0 elsewhere; coordinates in pixels.
Ints = NDArray[np.intp]
#: Differences of grey levels, int16 [H, W].
Signed = NDArray[np.int16]
#: Ink in [0, 1], or means of grey levels.
Floats32 = NDArray[np.float32]
Floats64 = NDArray[np.float64]

_T = TypeVar("_T", bound=np.generic)


def border_of(levels: NDArray[_T]) -> NDArray[_T]:
    """Return the pixels along the four sides [2H + 2W]; each corner twice."""
    return np.concatenate([levels[0], levels[-1], levels[:, 0], levels[:, -1]])


def span(profile: NDArray[Any]) -> tuple[int, int]:
    """Return the positions of the first value that is not 0 and, one past it, of the last. There must be one."""
    used = np.flatnonzero(profile)
    return int(used[0]), int(used[-1]) + 1


def spans(mask: Mask) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the span of the rows and that of the columns with True pixels."""
    return span(np.logical_or.reduce(mask, axis=1)), span(np.logical_or.reduce(mask, axis=0))


def longer_side(mask: Mask) -> int:
    """Return the longer side of the bounding box of the True pixels."""
    return max(last - first for first, last in spans(mask))
