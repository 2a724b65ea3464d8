"""Recognises single straight strokes, which the model takes for a 1 and which may be a slash or a line of a form."""

from __future__ import annotations

import numpy as np

from worker.image.arrays import Floats32, Mask
from worker.image.mnist_format import SIDE

#: Rows with less ink than this share of the fullest row are the ends of a stroke.
ENDS = 0.4
#: The middles of a printed bar's rows are off a straight line by at most STRAIGHT pixels (root mean square), and its
#: widths vary by at most the share EVEN: one in twenty of MNIST's 1s is as straight and leans.
STRAIGHT, EVEN = 0.12, 0.15
#: A slash leans by more columns a row than LEANING (8.5 degrees), a backslash by more than BACKWARDS (5 degrees):
#: people's 1s seldom lean backwards. A more upright bar may as well be a 1.
LEANING, BACKWARDS = 0.15, 0.09

_AT = np.arange(SIDE, dtype=np.float32)


def are_straight_strokes(pixels: Floats32, upright: Mask) -> Mask:
    """Tell which of the images float32 [n, 28, 28] are a leaning stroke as straight and even as print.

    Strokes that do not lean count too where `upright`, bool [n], is set. Returns bool [n].
    """
    ink = pixels.sum(axis=2)
    used = ink > ENDS * ink.max(axis=1, keepdims=True)
    used[:, 1:-1] &= used[:, :-2] & used[:, 2:]
    rows = np.maximum(used.sum(axis=1, keepdims=True), 1)
    ink = np.maximum(ink, np.float32(1e-6))
    middles = np.where(used, pixels @ _AT / ink, 0)
    at = np.where(used, _AT - (used @ _AT)[:, None] / rows, 0)
    slope = (at * middles).sum(axis=1, keepdims=True) / np.maximum((at * at).sum(axis=1, keepdims=True), 1)
    off = np.where(used, middles - middles.sum(axis=1, keepdims=True) / rows - slope * at, 0)
    mean = (ink * used).sum(axis=1, keepdims=True) / rows
    uneven = np.where(used, ink - mean, 0)
    straight = (off * off).sum(axis=1) <= STRAIGHT**2 * rows[:, 0]
    even = (uneven * uneven).sum(axis=1) <= (EVEN * mean[:, 0]) ** 2 * rows[:, 0]
    leaning = (slope[:, 0] < -LEANING) | (slope[:, 0] > BACKWARDS)
    found: Mask = straight & even & (leaning | upright)
    return found
