"""Normalises many pictures that are like MNIST's already, in a few array operations.

Takes clear cases only, and gives the pixels of `normalise` to the last bit; all others are left to it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from worker.image.arrays import Grey, Ints, Mask
from worker.image.mnist_format import BOX, CENTRE, SIDE
from worker.image.model_input import ModelInput

#: `threshold.bright_ink` takes ink for bright from a skewness of 0.8; above this no rounding makes a difference.
CLEARLY_BRIGHT = 0.9
#: `threshold.bright_ink` takes the light for uneven where the quartiles of the border are further apart than this.
EVEN_BORDER = 8
#: `normalise` takes a picture for one of MNIST's only if it has a pixel of this level.
BRIGHTEST = 200

_MIDDLES = np.arange(0.5, SIDE)


def normalise_mnist_like(greys: Grey) -> dict[int, ModelInput]:
    """Normalise those of uint8 [n, H, W] that `normalise` would return unchanged; return them by position."""
    if greys.shape[1:] != (SIDE, SIDE) or not len(greys):
        return {}
    rows, columns = greys.sum(axis=2), greys.sum(axis=1)
    like = (greys.max(axis=(1, 2)) >= BRIGHTEST) & _is_placed(rows, columns)
    like &= _has_even_border(greys) & _is_clearly_bright(greys)
    found = np.flatnonzero(like)
    pixels = np.divide(greys[found], 255, dtype=np.float32)
    return {at: ModelInput(one, (), mnist_like=True) for at, one in zip(found.tolist(), pixels, strict=True)}


def _is_placed(rows: NDArray[np.uint64], columns: NDArray[np.uint64]) -> Mask:
    """Tell whose ink fills a 20x20 box centred as MNIST's. Sums of whole numbers: all exact."""
    mass = np.maximum(rows.sum(axis=1), 1)  # a black picture has none, and is not bright enough anyway
    centred = (np.abs(rows @ _MIDDLES / mass - CENTRE) <= 1) & (np.abs(columns @ _MIDDLES / mass - CENTRE) <= 1)
    size = np.maximum(_lengths(rows), _lengths(columns))
    placed: Mask = centred & (size >= BOX - 1) & (size <= BOX)
    return placed


def _lengths(profiles: NDArray[np.uint64]) -> Ints:
    """Return the length of the span of each profile [n, SIDE]."""
    used = profiles > 0
    lengths: Ints = SIDE - used[:, ::-1].argmax(axis=1) - used.argmax(axis=1)
    return lengths


def _has_even_border(greys: Grey) -> Mask:
    border = np.sort(np.concatenate([greys[:, 0], greys[:, -1], greys[:, :, 0], greys[:, :, -1]], axis=1), axis=1)
    quarter = border.shape[1] // 4
    even: Mask = border[:, 3 * quarter].astype(np.int16) - border[:, quarter] <= EVEN_BORDER
    return even


def _is_clearly_bright(greys: Grey) -> Mask:
    """Tell whose levels have a large skewness: the third central moment over the cube of the standard deviation."""
    levels = greys.reshape(len(greys), -1).astype(np.float32)
    levels -= levels.mean(axis=1, keepdims=True)
    squares = levels * levels
    variance = np.maximum(squares.mean(axis=1), 1e-6)
    bright: Mask = np.einsum("ij,ij->i", squares, levels) / levels.shape[1] >= CLEARLY_BRIGHT * variance**1.5
    return bright
