"""Measures the time a worker needs for a picture in a batch of 64: decode, preprocess, predict, decide.

    python -m benchmarks.reading [ROUNDS]        prints the median of µs a picture; pin it to a core by taskset

Reads the golden digits unchanged, and moved to a random place in their 28x28, as people draw them.
"""

from __future__ import annotations

import statistics
import sys
import time

import numpy as np

from benchmarks.picture import png, recorded
from shared.settings import SHIPPED_MODEL
from worker.image.arrays import Grey, span
from worker.image.mnist_format import SIDE
from worker.inference.classify import Classifier
from worker.inference.mlp import Mlp

BATCH = 64


def off_centre(grey: Grey, rng: np.random.Generator) -> Grey:
    """Move the digit to a random place."""
    (top, bottom), (left, right) = span(grey.any(axis=1)), span(grey.any(axis=0))
    row, column = rng.integers(SIDE - (bottom - top) + 1), rng.integers(SIDE - (right - left) + 1)
    moved = np.zeros_like(grey)
    moved[row : row + bottom - top, column : column + right - left] = grey[top:bottom, left:right]
    return moved


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    digits, rng = recorded()[0][:BATCH], np.random.default_rng(0)
    classifier = Classifier(Mlp.load(SHIPPED_MODEL), 10**6)
    kinds = {"as in MNIST": digits, "off centre": np.stack([off_centre(one, rng) for one in digits])}
    files = {name: [png(one) for one in images] for name, images in kinds.items()}
    spent: dict[str, list[float]] = {name: [] for name in files}
    for _ in range(rounds):
        for name, batch in files.items():
            start = time.perf_counter()
            classifier(batch)
            spent[name].append((time.perf_counter() - start) / BATCH * 1e6)
    for name, times in spent.items():
        print(f"{name:12} {statistics.median(times):5.0f} µs")


if __name__ == "__main__":
    main()
