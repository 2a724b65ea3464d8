"""What choices are made with: digits, pictures and other things that no weight was fitted to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from worker.training.idx import Images, Labels
from worker.training.recipes import Recipe
from worker.training.train import Split

#: Pictures of digits, and of what is no digit, that are drawn.
DRAWN = 3_000


@dataclass(frozen=True)
class HeldOut:
    """Images uint8 [n, 28, 28], as the model sees them."""

    #: MNIST's own, with their labels.
    digits: Images
    labels: Labels
    #: Digits behind the camera and the preprocessing.
    pictures: Images
    #: What is no digit, likewise; [0, 28, 28] if there is nothing.
    nondigits: Images

    @classmethod
    def of(cls, split: Split, recipe: Recipe) -> HeldOut:
        """MNIST's digits, and for a recipe that trains on pictures some of those digits, and of kinds never drawn."""
        digits, labels = split.held_out_images, split.held_out_labels
        if not recipe.bank:
            return cls(digits, labels, digits, digits[:0])
        # Here, because distortions want OpenCV, which the other recipe does without.
        from worker.training import bank, nondigits

        rng = np.random.default_rng(0)
        seen, names = bank.pictures(digits, labels, DRAWN, rng)
        others = [bank.nondigit(nondigits.UNSEEN, digits, rng) for _ in range(DRAWN)]
        return cls(digits, labels, seen[names != bank.NONDIGIT], np.stack(others))
