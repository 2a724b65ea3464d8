"""The preprocessing, by name and version: from the bytes of a picture to the input of the model."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from worker.decoding.decode import decode
from worker.image.arrays import Grey
from worker.image.mnist_format import SIDE
from worker.image.model_input import ModelInput
from worker.image.normalise import normalise

PREPROCESSING_VERSION = "mnist-5"


def preprocess(data: bytes, *, max_pixels: int, method: str = "mnist") -> ModelInput:
    """Decode and normalise a picture by one of `METHODS`; another is a KeyError.

    Raises `TooManyPixels` and `UndecodableImage`, as `decode` does.
    """
    return METHODS[method](decode(data, max_pixels=max_pixels))


def seed(grey: Grey) -> ModelInput:
    """Resize to 28x28, invert, and binarise at level 50: the project's first preprocessing, kept for comparison."""
    small = np.asarray(Image.fromarray(grey).resize((SIDE, SIDE), Image.Resampling.LANCZOS))
    pixels = (255 - small > 50).astype(np.float32)
    return ModelInput(pixels, () if pixels.any() else ("no_ink",))


#: The ways to make the input of the model from grey levels uint8 [H, W].
METHODS: dict[str, Callable[[Grey], ModelInput]] = {"mnist": normalise, "seed": seed}
