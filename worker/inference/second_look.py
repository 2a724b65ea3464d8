"""Reads the doubtful digits of a page again, turned and scaled a little: the mean of all readings decides."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np

from worker.image.arrays import Floats32, Floats64
from worker.image.mnist_format import CENTRE, SIDE
from worker.inference.mlp import Reading
from worker.page.layout import Layout
from worker.page.opencv import opencv
from worker.page.path import best_paths

#: A chosen digit is doubtful if the chance that it is right lies between these.
LEAST, SURE = 0.02, 0.98
#: Degrees and scales in which it is looked at again.
VIEWS = ((5.0, 1.0), (-5.0, 1.0), (0.0, 1.07), (0.0, 0.93))


def looked_again(layout: Layout, reading: Reading) -> Generator[Floats32, Reading, Reading]:
    """Return the reading of a page's candidates with that of the doubtful digits on its best paths averaged.

    Yields the views of these, float32 [n, 28, 28], if there are any, and is sent their reading.
    """
    chances = reading.chances
    some = np.array([at for path in best_paths(layout.rows, chances) for at in path], np.intp)
    some = some[(chances[some] > LEAST) & (chances[some] < SURE)]
    if not some.size:
        return reading
    again = yield np.concatenate([_viewed(layout.pixels[some], *view) for view in VIEWS])
    found = Reading(reading.probabilities.copy(), reading.digitness.copy())
    for whole, views in zip(found, again, strict=True):
        whole[some] = np.concatenate([whole[None, some], views.reshape(len(VIEWS), *whole[some].shape)]).mean(axis=0)
    return found


def _viewed(pixels: Floats32, degrees: float, scale: float) -> Floats32:
    """Turn and scale images [n, 28, 28] about the centre of mass of MNIST's digits."""
    cv = opencv()
    middle = CENTRE - 0.5  # OpenCV counts from the middle of the first pixel
    there: Floats64 = cv.getRotationMatrix2D((middle, middle), degrees, scale)
    return np.stack([cv.warpAffine(one, there, (SIDE, SIDE)) for one in pixels])
