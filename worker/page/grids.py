"""Finds ruled tables in a picture, and reads their cells."""

from __future__ import annotations

import cv2
import numpy as np

from worker.image.arrays import Floats32, Grey
from worker.page.frames import SEARCHED, darkness, outlines, straightened
from worker.page.lattice import lattice_of


def find_grid(grey: Grey) -> Floats32 | None:
    """Return where the lines of a ruled table cross, float32 [rows + 1, columns + 1, 2], x before y, in pixels.

    `grey` is uint8 [H, W], lines darker than the paper. The table has at least two rows and two columns; a 9x9 sudoku
    may lack some of its lines. None if there is no table.
    """
    scale = max(1.0, max(grey.shape) / SEARCHED)
    size = round(grey.shape[1] / scale), round(grey.shape[0] / scale)
    small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA) if scale > 1 else grey
    dark = darkness(np.asarray(small, np.uint8))
    for corners in outlines(dark):
        flat, back = straightened(dark, corners)
        crossings = lattice_of(flat)
        if crossings is not None:
            return np.asarray(cv2.perspectiveTransform(crossings, back) * scale, np.float32)
    return None
