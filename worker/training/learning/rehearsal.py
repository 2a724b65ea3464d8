"""Rehearsal: a model that learns corrections is also shown the training digits that it is least sure of.

A small change of the weights changes the answers to those first, and a bank's digits are distorted: seldom like them.
With them, a model that has learnt 20 corrections reads as many held-out digits wrongly as before; without, up to six of
5,000 more. Their targets are half its own answers and half the labels; where it is wrong they are the labels.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from worker.training.data.idx import Images, Labels

#: How many of the training digits are rehearsed.
COUNT = 6_000
#: The share of the label in the targets, and the share of its probability that is spread over all classes.
LABELS, SMOOTHING = 0.5, 0.02


class Rehearsal(NamedTuple):
    """Images uint8 [n, 28, 28], and their targets float32 [n, classes]."""

    images: Images
    targets: NDArray[np.float32]


def hardest(logits: NDArray[np.float32], images: Images, labels: Labels, temperature: float) -> Rehearsal:
    """Return at most `COUNT` of the images, those with the smallest margins between the label and the runner-up.

    `logits` [n, classes] are the model's answers to images uint8 [n, 28, 28] with labels [n].
    """
    from worker.training.bank import smoothed, softened

    every = np.arange(len(labels))
    others = logits.copy()
    others[every, labels] = -np.inf
    margins = logits[every, labels] - others.max(axis=1)
    chosen = np.argsort(margins, kind="stable")[:COUNT]
    known = smoothed(labels[chosen], SMOOTHING)
    own = softened(logits[chosen], temperature)
    share = np.where(margins[chosen] > 0, np.float32(LABELS), np.float32(1))[:, None]
    return Rehearsal(images[chosen], np.asarray(share * known + (1 - share) * own, np.float32))
