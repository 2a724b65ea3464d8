"""Golden self-test: a worker reads a hundred recorded digits, and must get the probabilities recorded with the model.

The digits pass through everything, from PNG bytes to the network: a damaged file, another preprocessing, a broken
library or a faulty device shows before the first claim. A worker that fails never claims a job.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shared.errors import ModelError
from shared.prediction import Outcome
from worker.inference.classify import Classified
from worker.inference.mlp import CLASSES

FILE = "golden.npz"
DIGITS = 100
#: Largest difference from a recorded probability. Other processors add the same float32 numbers in another order: about
#: 1e-6. A GPU may round weights and pixels to TF32: 6e-4 (tests/training/test_device.py).
TOLERANCE = 5e-3

Classify = Callable[[Sequence[bytes]], Classified]


def record(classify: Classify, images: NDArray[np.uint8], labels: NDArray[np.uint8], folder: Path) -> None:
    """Save ten digits of each class, and the probabilities that `classify` gives them, in the model's folder.

    `images` are uint8 [n, 28, 28], bright ink on black; `labels` uint8 [n].
    """
    chosen = np.concatenate([np.flatnonzero(labels == digit)[: DIGITS // 10] for digit in range(10)])
    read = _read(classify, images[chosen])
    np.savez_compressed(
        folder / FILE, images=images[chosen], probabilities=read[:, :CLASSES], digitness=read[:, CLASSES]
    )


def check(classify: Classify, folder: Path) -> None:
    """Raise ModelError, with the reason, unless every golden digit is read as recorded."""
    try:
        with np.load(folder / FILE) as golden:
            images, probabilities = golden["images"], golden["probabilities"]
            # Models made before there was a digitness have none recorded: it was 1.
            digitness = golden["digitness"] if "digitness" in golden else np.ones(len(images))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ModelError(
            f"{folder / FILE} cannot be read ({error}): train the model again with `digitq train`"
        ) from error
    found, expected = _read(classify, images), np.column_stack([probabilities, digitness])
    wrong = int((found[:, :CLASSES].argmax(axis=1) != probabilities.argmax(axis=1)).sum())
    off = float(np.abs(found - expected).max())
    if wrong or not off <= TOLERANCE:
        raise ModelError(
            f"the golden self-test failed: {wrong} of {len(images)} digits are read differently, "
            f"probabilities differ by up to {off:.2g} (allowed {TOLERANCE:g})"
        )


def _read(classify: Classify, images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Upload the images as PNGs; return probabilities and digitness, float64 [n, 11], NaN where one fails."""
    uploads = [_png(image) for image in images]
    rows: list[Sequence[float]] = []
    while len(rows) < len(uploads):  # a batch may be closed early
        results = classify(uploads[len(rows) :]).results
        rows += [
            (*(one.probabilities or ()), one.digitness) if isinstance(one, Outcome) else [float("nan")] * (CLASSES + 1)
            for one in results
        ]
    return np.array(rows)


def _png(image: NDArray[np.uint8]) -> bytes:
    out = BytesIO()
    Image.fromarray(image).save(out, "PNG")
    return out.getvalue()
