"""Models that are made in no time, of weights that are written down and not learnt."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from worker.training.checkpoint import Checkpoint
from worker.training.data.idx import Mnist
from worker.training.recipes import SEED

#: One matrix from the pixels to ten logits.
LINEAR = replace(SEED, layers=(784, 10), batch=20, steps=30, validation=20, checkpoint_every=5)
#: Rows that are bright in the pictures of no digit; those of digit d are 2 d and 2 d + 1.
ELSEWHERE = slice(22, 26)


def stripes(n: int = 120) -> Mnist:
    """A digit is a bright pair of rows at its height, in noise; every fifth of n is kept for the test."""
    rng = np.random.default_rng(3)
    labels = np.arange(n, dtype=np.uint8) % 10
    images = rng.integers(0, 60, (n, 28, 28), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[2 * label : 2 * label + 2] += 190
    test = n // 5
    return Mnist(images[test:], labels[test:], images[:test], labels[:test])


def nondigits(n: int) -> np.ndarray:
    """Bright rows where no digit has them."""
    images = np.random.default_rng(4).integers(0, 60, (n, 28, 28), dtype=np.uint8)
    images[:, ELSEWHERE] += 190
    return images


def reader(mnist: Mnist, outputs: int = 10, sharpness: float = 20.0, **recipe: object) -> Checkpoint:
    """A finished run whose model reads the stripes; with eleven outputs it also knows what is none."""
    weights = np.zeros((28, 28, outputs), np.float32)
    for digit in range(10):
        weights[2 * digit : 2 * digit + 2, :, digit] = sharpness / 56
    if outputs == 11:
        weights[ELSEWHERE, :, 10] = sharpness / 112
    return _run(mnist, weights.reshape(784, outputs), np.zeros(outputs, np.float32), **recipe)


def always(digit: int, mnist: Mnist, **recipe: object) -> Checkpoint:
    """A finished run whose model reads one digit in everything."""
    return _run(mnist, np.zeros((784, 10), np.float32), np.eye(10, dtype=np.float32)[digit], **recipe)


def _run(mnist: Mnist, weights: np.ndarray, biases: np.ndarray, **changes: object) -> Checkpoint:
    recipe = replace(LINEAR, layers=weights.shape, **changes)
    return Checkpoint(recipe, 0, mnist.sha256(), recipe.steps, [(weights, biases)], [(weights, biases)])
