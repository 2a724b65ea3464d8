"""The model for the compared servers: the same files and the same lean call as digitq's, one thread.

`digit` and `digits` decode plainly; `preprocessed` does all that digitq's workers do to a picture.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.servers.__main__ import MODEL
from shared.prediction import Outcome
from shared.settings import SHIPPED_MODEL
from worker.inference.mlp import SIDE, Mlp

if TYPE_CHECKING:
    from worker.inference.classify import Classifier


@cache
def load() -> Mlp:
    """Load the model, and run each size of a batch once."""
    model = Mlp.to_serve(Path(os.environ.get(MODEL, SHIPPED_MODEL)), "cpu")
    model.warm_up()
    return model


def decoded(png: bytes) -> NDArray[np.float32]:
    """Decode as in a tutorial: grey, 28x28, float32 in [0, 1]. It finds no digit off the centre, or dark on bright."""
    image = Image.open(BytesIO(png)).convert("L")
    if image.size != (SIDE, SIDE):
        image = image.resize((SIDE, SIDE))
    return np.asarray(image, np.float32) / 255


def digits(pngs: Sequence[bytes]) -> list[int]:
    """Return the digits of white-on-black pictures, decoded plainly and read as one batch."""
    found: list[int] = load().predict(np.stack([decoded(png) for png in pngs])).argmax(axis=1).tolist()
    return found


def digit(png: bytes) -> int:
    """Return the digit in one picture, decoded plainly."""
    return digits([png])[0]


@cache
def classifier() -> Classifier:
    """Return digitq's whole classification with this model. Its libraries are imported only where it is used."""
    from worker.inference.classify import Classifier

    return Classifier(load(), 10**8)


def preprocessed(png: bytes) -> int | None:
    """Return the digit in one picture as digitq reads it: any format, found, centred, decided on."""
    [result] = classifier()([png]).results
    return result.digit if isinstance(result, Outcome) else None
