"""What `normalise` does with a picture that is like MNIST already, for many pictures in a few operations on arrays.

Only clear cases are taken; what is left goes through `normalise`, and the pixels are the same to the last bit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from worker.image.fit import BOX, CENTRE, SIDE
from worker.image.preprocess import Seen

#: `worker.image.ink` takes a skewness from 0.8 on for bright ink; beyond this no rounding makes a difference.
CLEARLY_BRIGHT = 0.9
#: `worker.image.ink` looks at the border for uneven light where its quartiles are further apart than this.
EVEN_BORDER = 8
#: `worker.image.preprocess` takes only a picture with a pixel of this level for one of MNIST's.
BRIGHTEST = 200

Bools = NDArray[np.bool_]

_MIDDLES = np.arange(0.5, SIDE)


def all_seen(greys: NDArray[np.uint8]) -> dict[int, Seen]:
    """Uint8 [n, H, W] -> position -> what `normalise` gives, for those that pass unchanged as they would there."""
    if greys.shape[1:] != (SIDE, SIDE) or not len(greys):
        return {}
    rows, columns = greys.sum(axis=2), greys.sum(axis=1)
    like = (greys.max(axis=(1, 2)) >= BRIGHTEST) & _is_placed(rows, columns)
    like &= _has_even_border(greys) & _is_clearly_bright(greys)
    found = np.flatnonzero(like)
    pixels = np.divide(greys[found], 255, dtype=np.float32)
    return {at: Seen(one, (), usual=True) for at, one in zip(found.tolist(), pixels, strict=True)}


def _is_placed(rows: NDArray[np.uint64], columns: NDArray[np.uint64]) -> Bools:
    """Ink in a box of 20 pixels, around the place of MNIST's centres of mass. Sums of whole numbers: all exact."""
    mass = np.maximum(rows.sum(axis=1), 1)  # of a black picture, which is not bright enough anyway
    centred = (np.abs(rows @ _MIDDLES / mass - CENTRE) <= 1) & (np.abs(columns @ _MIDDLES / mass - CENTRE) <= 1)
    size = np.maximum(_spans(rows), _spans(columns))
    placed: Bools = centred & (size >= BOX - 1) & (size <= BOX)
    return placed


def _spans(profiles: NDArray[np.uint64]) -> NDArray[np.intp]:
    used = profiles > 0
    spans: NDArray[np.intp] = SIDE - used[:, ::-1].argmax(axis=1) - used.argmax(axis=1)
    return spans


def _has_even_border(greys: NDArray[np.uint8]) -> Bools:
    border = np.sort(np.concatenate([greys[:, 0], greys[:, -1], greys[:, :, 0], greys[:, :, -1]], axis=1), axis=1)
    quarter = border.shape[1] // 4
    even: Bools = border[:, 3 * quarter].astype(np.int16) - border[:, quarter] <= EVEN_BORDER
    return even


def _is_clearly_bright(greys: NDArray[np.uint8]) -> Bools:
    """Skewness, the third central moment over the standard deviation cubed."""
    levels = greys.reshape(len(greys), -1).astype(np.float32)
    levels -= levels.mean(axis=1, keepdims=True)
    squares = levels * levels
    variance = np.maximum(squares.mean(axis=1), 1e-6)
    bright: Bools = np.einsum("ij,ij->i", squares, levels) / levels.shape[1] >= CLEARLY_BRIGHT * variance**1.5
    return bright
