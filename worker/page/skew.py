"""Finds by how much the lines of text on a page lean."""

from __future__ import annotations

import numpy as np

from worker.image.arrays import Floats64
from worker.page.marks import Marks

#: Leans up to this many degrees are found.
MOST = 35
#: Marks are on one line if their middles are off it by about this share of their height, within REACH heights.
OFF, REACH = 0.22, 5.0
#: The share of the pairs by which a lean must be better than none, a degree.
PRIOR = 0.002
#: Marks that are looked at; on a fuller page these are enough.
SAMPLE = 400


def lean(marks: Marks) -> float:
    """Return the lean of the lines of text in degrees, positive if they fall to the right; 0 if nothing shows.

    Every pair of neighbours of similar height votes for the leans that put both on one line.
    """
    tall = marks.chosen(~marks.flat)
    if len(tall.number) < 3:
        return 0.0
    if len(tall.number) > SAMPLE:
        tall = tall.chosen(np.linspace(0, len(tall.number) - 1, SAMPLE).astype(np.intp))
    x, y = tall.middle
    size = tall.height.astype(np.float64)
    right, down = x[None] - x[:, None], y[None] - y[:, None]
    mean = (size[None] + size[:, None]) / 2
    alike = np.minimum(size[None], size[:, None]) >= 0.55 * np.maximum(size[None], size[:, None])
    near = alike & (right > 0) & (np.hypot(right, down) <= REACH * mean)
    right, down = right[near] / mean[near], down[near] / mean[near]
    if not right.size:
        return 0.0
    coarse = _best(right, down, np.arange(-MOST, MOST + 1.0))
    return _best(right, down, np.arange(coarse - 1, coarse + 1.01, 0.25))


def _best(right: Floats64, down: Floats64, degrees: Floats64) -> float:
    """Return the lean with most votes of pairs, given by how far one mark is right of and below the other."""
    angles = np.radians(degrees)[:, None]
    off = down * np.cos(angles) - right * np.sin(angles)
    votes = np.exp(-((off / OFF) ** 2)).sum(axis=1) - PRIOR * right.size * np.abs(degrees)
    return float(degrees[int(votes.argmax())])
