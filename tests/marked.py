"""Marks of a page by their boxes alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from worker.page.marks import Marks

Box = tuple[float, float, float, float]


def marks_of(boxes: Sequence[Box], flat: Sequence[Box] = ()) -> Marks:
    """Marks that fill these boxes (left, top, width, height), and dashes that fill those."""
    left, top, width, height = np.array([*boxes, *flat], np.intp).reshape(-1, 4).T
    labels = np.zeros((max(0, *(top + height), 1), max(0, *(left + width), 1)), np.int32)
    for at, (x, y, wide, high) in enumerate(zip(left, top, width, height, strict=True)):
        labels[y : y + high, x : x + wide] = at + 1
    is_flat = np.arange(len(left)) >= len(boxes)
    return Marks(labels, np.arange(len(left)) + 1, left, top, left + width, top + height, width * height, is_flat)
