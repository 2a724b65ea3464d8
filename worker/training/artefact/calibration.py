"""The temperature that makes confidences honest."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def temperature(logits: NDArray[Any], labels: NDArray[Any]) -> float:
    """The T, 0.05 to 20, for which softmax(logits / T) makes the labels most likely: logits [n, classes], labels [n].

    Source: C. Guo et al., "On Calibration of Modern Neural Networks", 2017, section 4.2.
    """
    scores = logits.astype(np.float64)
    scores -= scores.max(axis=1, keepdims=True)
    right = scores[np.arange(len(labels)), labels].mean()
    low, high = 1 / 20, 20.0  # of 1 / T, in which the likelihood is concave: its slope is halved down to its zero
    for _ in range(50):
        middle = (low + high) / 2
        odds = np.exp(scores * middle)
        expected = ((odds * scores).sum(axis=1) / odds.sum(axis=1)).mean()
        low, high = (middle, high) if expected < right else (low, middle)
    return 1 / middle
