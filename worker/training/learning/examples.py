"""Corrections as the model sees them, and their rows in the batches of a training run."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.training.data.idx import Images, Labels, pixels
from worker.training.learning.rehearsal import Rehearsal
from worker.training.recipes import Recipe

#: The share of the label's probability that is spread over all classes: people make mistakes too.
SMOOTHING = 0.05
#: Keeps the random numbers apart from those of the bank's batches.
_STREAM = 1


@dataclass(frozen=True)
class Examples:
    """Images uint8 [n, 28, 28], at least one, and their labels uint8 [n]: 0 to 9, or `crop_truth.NONDIGIT`."""

    images: Images
    labels: Labels
    rehearsal: Rehearsal

    def sha256(self) -> str:
        """Return the digest of images and labels, in hex."""
        return hashlib.sha256(self.images.tobytes() + self.labels.tobytes()).hexdigest()

    def join(self, batch: tuple[Any, ...], recipe: Recipe, seed: int, step: int) -> tuple[Any, ...]:
        """Return the batch of step 0, 1, 2, … with distorted examples and digits to rehearse added, any of them.

        `batch` is one of the bank: pixels float32 [n, 28, 28], targets float32 [n, 11], and the dice of dropout.
        """
        from worker.training.bank import smoothed
        from worker.training.data.distort import distort

        rng = np.random.default_rng([seed, step, _STREAM])
        chosen = rng.integers(0, len(self.images), recipe.corrections)
        again = rng.integers(0, len(self.rehearsal.images), recipe.rehearsed)
        images = np.concatenate([distort(self.images[chosen], rng), self.rehearsal.images[again]])
        targets = np.concatenate([smoothed(self.labels[chosen], SMOOTHING), self.rehearsal.targets[again]])
        dice: NDArray[np.uint8] = rng.integers(0, 256, (len(images), batch[2].shape[1]), np.uint8)
        added: list[Any] = [pixels(images), targets, dice]
        return tuple(np.concatenate(pair) for pair in zip(batch, added, strict=True))
