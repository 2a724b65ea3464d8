"""Held-out data for choosing temperatures and thresholds: digits, pictures and non-digits not used in training."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from worker.training.data.idx import Images, Labels
from worker.training.recipes import Recipe
from worker.training.train import Split

#: The numbers of pictures of digits and of non-digits.
DRAWN = 3_000


@dataclass(frozen=True)
class HeldOut:
    """Images uint8 [n, 28, 28], as the model sees them."""

    #: MNIST's own, with their labels.
    digits: Images
    labels: Labels
    #: Photographed digits after the preprocessing.
    pictures: Images
    #: Non-digits, likewise; [0, 28, 28] if there are none.
    nondigits: Images

    @classmethod
    def of(cls, split: Split, recipe: Recipe) -> HeldOut:
        """Return MNIST's held-out digits; for a recipe with pictures also those of digits and of unseen non-digits."""
        digits, labels = split.held_out_images, split.held_out_labels
        if not recipe.bank:
            return cls(digits, labels, digits, digits[:0])
        # Imported here, because distortions need OpenCV, and the other recipe does not.
        from worker.training import bank
        from worker.training.drawing import nondigits
        from worker.training.pages.crop_truth import NONDIGIT

        rng = np.random.default_rng(0)
        seen, names = bank.pictures(digits, labels, DRAWN, rng)
        others = [bank.nondigit(nondigits.UNSEEN, digits, rng) for _ in range(DRAWN)]
        return cls(digits, labels, seen[names != NONDIGIT], np.stack(others))

    @classmethod
    def kept(cls, path: Path, split: Split, recipe: Recipe) -> HeldOut:
        """Return those of the file `path`; draw them, which takes half a minute, and write it, if there is none.

        In the directory of a bank they are of its data and version: training refuses another one.
        """
        names = [one.name for one in fields(cls)]
        try:
            with np.load(path) as kept:
                return cls(*(kept[name] for name in names))
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
            found, part = cls.of(split, recipe), path.with_name(f"{path.name}.part")
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            np.savez(file, **{name: getattr(found, name) for name in names})
        part.replace(path)
        return found
