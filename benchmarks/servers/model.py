"""The model for the compared servers: the same files, one concrete function, one thread, one picture."""

from __future__ import annotations

from functools import cache
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from shared.settings import SHIPPED_MODEL
from worker.inference.mlp import CLASSES, configure_threads, tensorflow


@cache
def load() -> Any:
    configure_threads()
    return tensorflow().saved_model.load(str(SHIPPED_MODEL))


def digit(png: bytes) -> int:
    """Return the digit in a 28x28 picture, white on black. No preprocessing, which favours the compared servers."""
    pixels = np.asarray(Image.open(BytesIO(png)).convert("L"), np.float32)[None] / 255
    [probabilities] = load().probabilities.concrete_functions
    return int(probabilities(tensorflow().constant(pixels)).numpy()[0, :CLASSES].argmax())
