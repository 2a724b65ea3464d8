"""Measures how many non-digits and digits serving rejects with a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from shared.prediction import Outcome
from worker.inference.classify import Classifier
from worker.training.data.idx import Images
from worker.training.data.pictures import png
from worker.training.drawing.camera import Picture, penned, photographed
from worker.training.drawing.nondigits import UNSEEN, Kind
from worker.training.evaluation.evaluate import CHUNK
from worker.training.evaluation.examine import Examination, Refusals

#: Pictures of each kind.
PICTURES = 200


class Row(NamedTuple):
    """A kind of picture to draw."""

    name: str
    draw: Kind
    digits: bool


def refusals(models: Mapping[str, Classifier], images: Images, n: int = PICTURES) -> Iterable[Refusals]:
    """Draw `n` pictures of each kind, always the same, and read them; `images`, uint8 [m, 28, 28], are test digits.

    The random generator is seeded with the name of the kind, fonts are held out, and the digits of `several digits`
    are test digits: none of these pictures was drawn in training.
    """
    kinds = [Row(name, draw, False) for name, draw in UNSEEN.items()]
    for row in (*kinds, Row("digits, photographed", _photographed, True)):
        rng = np.random.default_rng(list(row.name.encode()))
        pictures = [row.draw(images, rng) for _ in range(n)]
        uploads = [png(picture) for picture in pictures]
        refused = {name: _refused(uploads, classifier) for name, classifier in models.items()}
        yield Refusals(row.name, pictures[0], n, row.digits, refused)


def of_digits(name: str, examinations: Sequence[Examination]) -> Refusals:
    """Return the rejections of the digits that were examined anyway."""
    first = examinations[0]
    refused = {one.model: one.decisions()["reject"]["images"] for one in examinations}
    sample = first.pictures[0].source
    assert isinstance(sample, np.ndarray)
    return Refusals(name, sample, len(first.pictures), True, refused)


def _photographed(images: Images, rng: np.random.Generator) -> Picture:
    """Draw a digit with some pen and photograph it with some camera or screen."""
    return photographed(penned(images[rng.integers(len(images))], rng), rng)


def _refused(uploads: Sequence[bytes], classifier: Classifier) -> int:
    results: list[Outcome | Exception] = []
    while len(results) < len(uploads):  # a batch that takes long is closed early
        results += classifier(uploads[len(results) : len(results) + CHUNK]).results
    return sum(isinstance(result, Outcome) and result.decision == "reject" for result in results)
