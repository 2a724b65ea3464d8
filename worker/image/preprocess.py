"""The preprocessings, by name, and the version of the one in service."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from worker.image.arrays import Grey
from worker.image.mnist_format import SIDE
from worker.image.model_input import ModelInput
from worker.image.normalise import normalise

PREPROCESSING_VERSION = "mnist-5"


def seed(grey: Grey) -> ModelInput:
    """Resize to 28x28, invert, and binarise at level 50: the project's first preprocessing, kept for comparison."""
    small = np.asarray(Image.fromarray(grey).resize((SIDE, SIDE), Image.Resampling.LANCZOS))
    pixels = (255 - small > 50).astype(np.float32)
    return ModelInput(pixels, () if pixels.any() else ("no_ink",))


#: The ways to make the input of the model from grey levels uint8 [H, W].
METHODS: dict[str, Callable[[Grey], ModelInput]] = {"mnist": normalise, "seed": seed}
