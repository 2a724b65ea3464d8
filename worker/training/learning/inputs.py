"""Reads corrected pictures as serving does: what a model makes of them, and the inputs to learn from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared.numbers import Box
from shared.prediction import Outcome
from worker.decoding.decode import Page, decode_page
from worker.image.arrays import Floats32, Grey
from worker.image.mnist_format import SIDE
from worker.image.normalise import normalise
from worker.inference.classify import Classifier
from worker.inference.numbers_classifier import NumbersClassifier
from worker.inference.read_sudoku import inputs as inputs_of_cells
from worker.page.grid.find import find_grid
from worker.page.layout import lay_out
from worker.training.bank import REFUSED
from worker.training.learning.corrections import BadCorrections, Correction, Corrections
from worker.training.pages.crop_truth import NONDIGIT

#: Two boxes are of one digit from this ratio of their intersection to their union on.
SAME = 0.5
#: A box that the reader of pages does not find is cropped with this margin, as a share of its longer side.
MARGIN = 0.15

#: Is called with the number of corrections that were dealt with.
Done = Callable[[int], object]


class Seen(NamedTuple):
    """A correction as a model saw it."""

    correction: Correction
    #: What the page showed: 0 to 9, or NONDIGIT where no digit was read.
    read: int
    #: The model's input, uint8 [28, 28]; None if serving rejects the picture whatever the model says.
    pixels: NDArray[np.uint8] | None


def see(corrections: Corrections, classifier: Classifier, done: Done) -> list[Seen]:
    """Read all corrected pictures with a model, as uploads; return them in the order of `corrections.rows`.

    Raises `BadCorrections` if one cannot be decoded, or a box is not on it.
    """
    return list(_seen(corrections, classifier, done, learn=True))


def read(corrections: Corrections, classifier: Classifier, done: Done) -> list[int]:
    """Return only what the model reads, as `Seen.read`."""
    return [one.read for one in _seen(corrections, classifier, done, learn=False)]


def _seen(corrections: Corrections, classifier: Classifier, done: Done, learn: bool) -> Iterator[Seen]:
    pages = NumbersClassifier(classifier)
    for picture, group in groupby(corrections.rows, lambda one: (one.picture, one.box is None)):
        rows, content = list(group), corrections.content(picture[0])
        [outcome] = (classifier if picture[1] else pages)([content]).results
        if not isinstance(outcome, Outcome):
            raise BadCorrections(f"{picture[0]}: {outcome}")
        crops = _Crops(content, outcome, classifier.max_pixels) if learn else None
        for row in rows:
            yield Seen(row, _read(outcome, row.box), crops.of(row) if crops else None)
        done(len(rows))


def _read(outcome: Outcome, box: Box | None) -> int:
    """Return the digit that is shown, of the picture or at the box; NONDIGIT if there is none."""
    if box is None:
        return NONDIGIT if outcome.decision == "reject" or outcome.digit is None else outcome.digit
    digits = [one for one in (outcome.page.digits if outcome.page else ()) if one.decision != "reject"]
    at = _best(box, [one.box for one in digits])
    return NONDIGIT if at is None else digits[at].digit


class _Crops:
    """The inputs of the model for a picture; a page is laid out when the first of its boxes is asked for."""

    def __init__(self, content: bytes, outcome: Outcome, max_pixels: int) -> None:
        self._content, self._outcome, self._max_pixels = content, outcome, max_pixels
        self._page: tuple[Page, Floats32, list[Box]] | None = None

    def of(self, row: Correction) -> NDArray[np.uint8] | None:
        if row.box is None or self._outcome.input:
            if REFUSED & set(self._outcome.warnings) or not self._outcome.input:
                return None
            return np.frombuffer(self._outcome.input, np.uint8).reshape(SIDE, SIDE)
        if self._page is None:
            page = decode_page(self._content, max_pixels=self._max_pixels)
            rotated = self._outcome.page.rotated if self._outcome.page else 0
            self._page = page, *candidates(page.grey, rotated // 90)
        page, pixels, boxes = self._page
        box = _on(page, row, row.box)
        at = _best(box, boxes)
        found = normalise(_cut(page.grey, box)).pixels if at is None else pixels[at]
        return np.rint(found * 255).astype(np.uint8)


def candidates(page: Grey, quarters: int) -> tuple[Floats32, list[Box]]:
    """Return all inputs of the model for a page turned by quarters, float32 [n, 28, 28], and their boxes on it.

    They are the same as those that `read_pages` asks the model about.
    """
    grid = find_grid(page)
    if grid and grid.is_sudoku:
        digits = [cell.digit for row in grid.cells for cell in row if cell.digit]
        return inputs_of_cells(grid, quarters), [digit.box for digit in digits]
    layout = lay_out(page, quarters)
    boxes = [layout.on_page(one.box, page.shape) for row in layout.rows for one in row.candidates]
    return layout.pixels, boxes


def _on(page: Page, row: Correction, box: Box) -> Box:
    """Return a box of the upright upload in pixels of the page. Raises `BadCorrections` if it is not on it."""
    (width, height), (left, top, across, down) = page.size, box
    if left + across > width or top + down > height:
        raise BadCorrections(f"{row.picture}: the box {box} lies outside the picture, {width} x {height} pixels")
    x, y = page.grey.shape[1] / width, page.grey.shape[0] / height
    return round(left * x), round(top * y), max(1, round(across * x)), max(1, round(down * y))


def _cut(page: Grey, box: Box) -> Grey:
    left, top, width, height = box
    margin = max(2, round(MARGIN * max(width, height)))
    return page[max(0, top - margin) : top + height + margin, max(0, left - margin) : left + width + margin]


def _best(box: Box, others: Sequence[Box]) -> int | None:
    """Return the position of the box that overlaps most, if the two are of one digit."""
    if not others:
        return None
    left, top, width, height = np.array(others).T
    across = np.minimum(left + width, box[0] + box[2]) - np.maximum(left, box[0])
    down = np.minimum(top + height, box[1] + box[3]) - np.maximum(top, box[1])
    both = across.clip(0) * down.clip(0)
    shares = both / (width * height + box[2] * box[3] - both)
    best = int(shares.argmax())
    return best if shares[best] >= SAME else None
