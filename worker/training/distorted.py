"""Batches of distorted digits, each a pure function of data, recipe, seed and step; made ahead on a thread.

Most of a batch is MNIST distorted. The rest are pictures as serving sees them, of distorted digits and of rare forms:
preprocessing costs milliseconds a picture, so each step makes a few and chooses among those of the last `RECENT` steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.training import camera, strokes
from worker.training.batches import batch_indices
from worker.training.distort import distort
from worker.training.idx import Images, Labels, pixels
from worker.training.recipes import Recipe

#: A step chooses among the pictures that so many steps, itself the last, have made.
RECENT = 64
#: Pictures of digits and of rare forms that a step makes.
FRESH_DIGITS, FRESH_FORMS = 6, 2
#: Batches that are ready before they are asked for.
AHEAD = 8
#: Rare forms are drawn at this side.
FORM_SIDE = 56

#: Pixels float32 [n, 28, 28] in [0, 1], labels int32 [n], and the dice of `network.dropout`, uint8 [n, hidden units].
Batch = tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.uint8]]


class Distorted:
    """The batches of a run."""

    def __init__(self, images: Images, labels: Labels, recipe: Recipe, seed: int) -> None:
        """Images uint8 [n, 28, 28] and labels uint8 [n]. Raises ValueError for a recipe that does not distort."""
        if recipe.pictures is None:
            raise ValueError(f"the recipe {recipe.name} does not distort")
        self._images, self._labels, self._recipe, self._seed = images, labels, recipe, seed
        self._digits, self._forms = recipe.pictures
        self._fresh = lru_cache(maxsize=RECENT)(self._make_fresh)
        cv2.setNumThreads(1)  # the other core trains

    def at(self, step: int) -> Batch:
        """The batch of step 0, 1, 2, …"""
        rng = np.random.default_rng([self._seed, step, 1])
        chosen = batch_indices(step, len(self._images), self._recipe.batch, self._seed)
        images, labels = distort(self._images[chosen], rng), self._labels[chosen].astype(np.int32)
        recent = [self._fresh(past) for past in range(max(0, step - RECENT + 1), step + 1)]
        start = 0
        for kind, count in ((slice(FRESH_DIGITS), self._digits), (slice(FRESH_DIGITS, None), self._forms)):
            pictures, names = (np.concatenate([fresh[part][kind] for fresh in recent]) for part in (0, 1))
            among = rng.integers(0, len(pictures), count)
            images[start : start + count], labels[start : start + count] = pictures[among], names[among]
            start += count
        dice = rng.integers(0, 256, (len(images), sum(self._recipe.layers[1:-1])), np.uint8)
        return pixels(images), labels, dice

    def ahead(self, start: int, stop: int) -> Iterator[Batch]:
        """The batches of the steps start..stop-1, made by one thread while earlier ones are used."""
        with ThreadPoolExecutor(1) as maker:
            waiting = [maker.submit(self.at, step) for step in range(start, min(start + AHEAD, stop))]
            for step in range(start, stop):
                batch = waiting.pop(0).result()
                if step + AHEAD < stop:
                    waiting.append(maker.submit(self.at, step + AHEAD))
                yield batch

    def _make_fresh(self, step: int) -> tuple[Images, NDArray[np.int32]]:
        """The pictures that a step adds, and their labels: those of digits first."""
        rng = np.random.default_rng([self._seed, step, 2])
        chosen = rng.integers(0, len(self._images), FRESH_DIGITS)
        forms = rng.choice(list(strokes.FORMS), FRESH_FORMS)
        inks = [*distort(self._images[chosen], rng), *(strokes.draw(int(form), FORM_SIDE, rng) for form in forms)]
        seen = np.stack([camera.seen(ink, rng) for ink in inks])
        return seen, np.concatenate([self._labels[chosen], forms]).astype(np.int32)
