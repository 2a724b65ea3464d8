"""The golden gate: a hundred recorded digits that a worker has to read as they were read when the model was made.

They go the whole way, from PNG bytes through preprocessing and network: a damaged file, another preprocessing, a broken
library or a sick device shows before the first claim. A worker that fails never claims a job.
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
#: How far a probability may be from the recorded one: other processors order the same float32 sums otherwise, which is
#: some 1e-6; weights and pixels rounded to TF32, as a GPU may read them, 6e-4 (tests/test_device.py).
TOLERANCE = 5e-3

Classify = Callable[[Sequence[bytes]], Classified]


def record(classify: Classify, images: NDArray[np.uint8], labels: NDArray[np.uint8], folder: Path) -> None:
    """Records how the first digits of each class are read, into the model's folder.

    `images` are uint8 [n, 28, 28], bright ink on black; `labels` uint8 [n].
    """
    chosen = np.concatenate([np.flatnonzero(labels == digit)[: DIGITS // 10] for digit in range(10)])
    read = _read(classify, images[chosen])
    np.savez_compressed(
        folder / FILE, images=images[chosen], probabilities=read[:, :CLASSES], digitness=read[:, CLASSES]
    )


def check(classify: Classify, folder: Path) -> None:
    """Raises ModelError, with the reason, unless every golden digit is read as recorded."""
    try:
        with np.load(folder / FILE) as golden:
            images, probabilities = golden["images"], golden["probabilities"]
            # A record made before models could tell what is no digit has no digitness: there it was 1.
            digitness = golden["digitness"] if "digitness" in golden else np.ones(len(images))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ModelError(
            f"{folder / FILE} cannot be read ({error}): make the model anew with `digitq train`"
        ) from error
    found, expected = _read(classify, images), np.column_stack([probabilities, digitness])
    wrong = int((found[:, :CLASSES].argmax(axis=1) != probabilities.argmax(axis=1)).sum())
    off = float(np.abs(found - expected).max())
    if wrong or not off <= TOLERANCE:
        raise ModelError(
            f"the golden gate is shut: {wrong} of {len(images)} digits are read otherwise, "
            f"probabilities differ by up to {off:.2g} (allowed {TOLERANCE:g})"
        )


def _read(classify: Classify, images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Probabilities of the digits and digitness [n, 11] of uploads that look like these images; NaN where one cannot be
    read.
    """
    uploads = [_png(image) for image in images]
    rows: list[Sequence[float]] = []
    while len(rows) < len(uploads):  # a batch may be closed before its end
        results = classify(uploads[len(rows) :]).results
        rows += [
            (*one.probabilities, one.digitness) if isinstance(one, Outcome) else [float("nan")] * (CLASSES + 1)
            for one in results
        ]
    return np.array(rows)


def _png(image: NDArray[np.uint8]) -> bytes:
    out = BytesIO()
    Image.fromarray(image).save(out, "PNG")
    return out.getvalue()
