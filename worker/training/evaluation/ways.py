"""Measures the effect of the preprocessing: the same pictures with it, with the seed's, and only resized."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shared.errors import DigitqError
from worker.decoding.decode import decode
from worker.image.mnist_format import SIDE
from worker.image.normalise import normalise
from worker.image.preprocess import seed
from worker.inference.classify import Classifier
from worker.training.data.pictures import Picture

Grey = NDArray[np.uint8]
Pixels = NDArray[np.float32]


class Condition(NamedTuple):
    """The results on pictures of one kind."""

    name: str
    #: One of them, to show.
    sample: Picture
    images: int
    #: The number of pictures read right, by model and way.
    right: dict[str, dict[str, int]]


def plain(grey: Grey) -> Pixels:
    """Only resize uint8 [H, W] to float32 [28, 28] in [0, 1], bright levels as ink."""
    small = Image.fromarray(grey).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    return np.asarray(small, np.float32) / np.float32(255)


#: Ways to make the model's input, float32 [28, 28], from grey levels uint8 [H, W], by name; ours is first.
WAYS: dict[str, Callable[[Grey], Pixels]] = {
    "mnist": lambda grey: normalise(grey).pixels,
    "seed": lambda grey: seed(grey).pixels,
    "plain": plain,
}


def condition(name: str, pictures: Sequence[Picture], models: Mapping[str, Classifier]) -> Condition:
    """Read the pictures with each model in each way. One that cannot be decoded counts as wrong."""
    labels = np.array([picture.label for picture in pictures])
    max_pixels = max(one.max_pixels for one in models.values())
    greys = [_decoded(picture, max_pixels) for picture in pictures]
    right: dict[str, dict[str, int]] = {model: {} for model in models}
    for way, see in WAYS.items():
        blank = np.zeros((SIDE, SIDE), np.float32)
        pixels = np.stack([blank if grey is None else see(grey) for grey in greys])
        for model, classifier in models.items():
            hits = classifier.model.predict(pixels).argmax(axis=1) == labels
            right[model][way] = sum(hit and grey is not None for hit, grey in zip(hits.tolist(), greys, strict=True))
    return Condition(name, pictures[0], len(pictures), right)


def total(conditions: Sequence[Condition]) -> Condition:
    """All of them as one; there has to be one."""
    first = conditions[0]
    right = {
        model: {way: sum(one.right[model][way] for one in conditions) for way in ways}
        for model, ways in first.right.items()
    }
    return Condition("all", first.sample, sum(one.images for one in conditions), right)


def _decoded(picture: Picture, max_pixels: int) -> Grey | None:
    try:
        return decode(picture.content(), max_pixels=max_pixels)
    except DigitqError:
        return None
