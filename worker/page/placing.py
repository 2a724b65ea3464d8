"""Brings the candidates for digits to the input of the model, as MNIST's digits are: a few microseconds each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from worker.image.arrays import Floats32, Grey
from worker.image.mnist_format import BOX, CENTRE, SIDE, normalise_strokes
from worker.page.candidates import Candidate, Row, mask_of
from worker.page.opencv import opencv

#: Candidates are averaged to this many times the size in which they are placed.
FINE = 2


def model_inputs(level: Grey, rows: Sequence[Row]) -> Floats32:
    """Bring all candidates of a page with ink `level`, uint8 [H, W], to the model's input: float32 [n, 28, 28]."""
    count = sum(len(row.candidates) for row in rows)
    pixels = np.zeros((count, SIDE, SIDE), np.float32)
    bordered = np.pad(level, 1)
    at = 0
    for row in rows:
        for one in row.candidates:
            pixels[at], _ = normalise_strokes(_placed(bordered, row, one))
            at += 1
    return pixels


def _placed(bordered: Grey, row: Row, one: Candidate) -> Floats32:
    """Scale a candidate to fit a 20x20 box and centre its mass in 28x28, so that all of it is inside.

    `bordered` has one pixel more on each side than the page: the soft edge of the ink reaches that far. Ink is 1 at the
    median of the candidate's.
    """
    cv = opencv()
    left, top, width, height = one.box
    mask = np.zeros((height + 2, width + 2), np.uint8)
    mask[1:-1, 1:-1] = mask_of(row, one)
    ink = bordered[top : top + height + 2, left : left + width + 2]
    own = np.sort(ink[mask.view(np.bool_)])
    full = max(1, int(own[len(own) // 2]))
    soft = cv.dilate(mask, np.ones((3, 3), np.uint8)) * cv.convertScaleAbs(ink, alpha=255 / full)
    # In two steps: averaged to twice the size, then moved by parts of a pixel; narrow 1s would else change their width.
    scale = FINE * BOX / max(width, height)
    size = max(1, round((width + 2) * scale)), max(1, round((height + 2) * scale))
    fine = cv.resize(soft, size, interpolation=cv.INTER_AREA if scale < 1 else cv.INTER_LINEAR)
    scales = BOX / max(width, height) * np.array([(width + 2) / size[0], (height + 2) / size[1]])
    there = np.zeros((2, 3))
    for axis, length in ((0, size[0]), (1, size[1])):
        profile = fine.sum(axis=axis, dtype=np.float64)
        middle = float(profile @ np.arange(0.5, length)) / max(float(profile.sum()), 1.0)
        room = SIDE - length * scales[axis]
        start = min(max(CENTRE - middle * scales[axis], min(0.0, room)), max(0.0, room))
        there[axis, axis] = scales[axis]
        there[axis, 2] = start + scales[axis] / 2 - 0.5  # OpenCV counts from the middle of the first pixel
    placed: Floats32 = cv.warpAffine(fine.astype(np.float32) / 255, there, (SIDE, SIDE), flags=cv.INTER_LINEAR)
    return placed
