"""What makes an answer doubtful of which the model is sure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from worker.image.fit import SIDE, Pixels

#: Rows with less ink than this part of the row with the most are the ends of a stroke.
ENDS = 0.4
#: The middles of the rows of a printed bar are off a straight line by at most so many pixels, as the root of the mean
#: square, and its widths vary by this part: of MNIST's 1s one in twenty is as straight and leans.
STRAIGHT, EVEN = 0.12, 0.15
#: A slash leans by more columns than this for each row (8.5 degrees), a backslash by more than the second (5 degrees);
#: people's 1s seldom lean backwards. A bar that is more upright may as well be a 1.
LEANING, BACKWARDS = 0.15, 0.09

_AT = np.arange(SIDE, dtype=np.float32)


def ruled(pixels: Pixels, upright: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which of the images float32 [n, 28, 28] are a leaning stroke as straight and even as print: a slash, or a 1.

    Where `upright` [n] is set, one that does not lean counts too: it may be a line of a form.
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
    found: NDArray[np.bool_] = straight & even & (leaning | upright)
    return found
