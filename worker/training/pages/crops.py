"""Crops of composed pages as the reader of pages sees them, with their truth: digits, and what is not exactly one.

A crop that looks like a digit when alone, such as an O, an l or a narrow piece of a digit, is not taught as a non-digit
with certainty: the context decides about it. The label of a crop has a trust, and where that is low, the model that the
training begins with answers for the rest.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.image.arrays import Mask
from worker.image.components import grown
from worker.image.mnist_format import normalise_strokes, place
from worker.page.candidates import mask_of
from worker.page.ink import find_ink
from worker.page.layout import lay_out
from worker.training.data.idx import Images, Labels
from worker.training.drawing import scenes
from worker.training.pages.compose import Page, compose
from worker.training.pages.crop_truth import LIKE, NONDIGIT, SURE, may_be_one, trusted, truth_of

#: Ink spreads this far from a mark when it is photographed, in heights of a digit.
SOFT_EDGE = 0.06
#: Most crops of a page, by kind.
MOST = {"digit": 24, "mark": 16, "piece": 6, "several": 6, "paper": 4, "cell": 16}
#: The height of a digit in a straightened cell, in pixels, and how much it is sharpened.
CELL_DIGIT, SHARP = 24, 3.0
#: The share of pages that are textures.
TEXTURES = 0.08


class Crop(NamedTuple):
    """The model's input, what it shows, and how far that is to be trusted."""

    #: uint8 [28, 28].
    pixels: NDArray[np.uint8]
    #: 0 to 9, or NONDIGIT.
    label: int
    #: 0 to 1; a crop without any is not to be learnt.
    trust: float
    #: `digit`, `mark` (a letter or sign), `piece` of a mark, `several` marks or parts of them, or `paper`; or `cell`, a
    #: digit of a table.
    kind: str
    #: The digit, letter or sign that has the most ink in it; empty if there is none.
    text: str
    #: Whether that was set in a font.
    printed: bool


def crops(
    images: Images, labels: Labels, count: int, rng: np.random.Generator, held_out: bool = False
) -> Iterator[Crop]:
    """Yield `count` crops of pages composed of digits uint8 [n, 28, 28] and of fonts; see `compose`."""
    while count > 0:
        if rng.random() < TEXTURES:
            found = list(of_texture(rng))
        else:
            page = compose(images, labels, rng, held_out=held_out)
            found = [*of_page(page), *of_cells(page, rng)]
        rng.shuffle(found)
        taken: dict[str, int] = defaultdict(int)
        for crop in found:
            taken[crop.kind] += 1
            if count > 0 and crop.trust and taken[crop.kind] <= MOST[crop.kind]:
                count -= 1
                yield crop


def of_page(page: Page) -> Iterator[Crop]:
    """Yield all candidates that the reader finds on a page, with their truth."""
    layout = lay_out(page.picture)
    boxes = [one.box for row in layout.rows for one in row.candidates]
    if not boxes:
        return
    size = max(box[0] + box[2] for box in boxes), max(box[1] + box[3] for box in boxes)
    layers = [
        cv2.warpAffine(
            layer.astype(np.float32), np.asarray(layout.back, np.float64), size,
            flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP,
        ).astype(np.int32)
        for layer in page.layers
    ]  # fmt: skip
    areas = np.stack([np.bincount(layer.ravel(), minlength=len(page.marks) + 1) for layer in layers])
    soft = 2 * round(SOFT_EDGE * page.height / abs(float(layout.back[0, 0]))) + 1
    inked = cv2.dilate((layers[0] + layers[1] > 0).astype(np.uint8), np.ones((soft, soft), np.uint8))
    every = ((row, one) for row in layout.rows for one in row.candidates)
    for pixels, (row, one) in zip(layout.pixels, every, strict=True):
        mask = mask_of(row, one)
        left, top, width, height = one.box
        inside = [layer[top : top + height, left : left + width][mask] for layer in layers]
        counts = np.stack([np.bincount(part, minlength=len(page.marks) + 1) for part in inside])
        total, stray = int(mask.sum()), float(1 - inked[top : top + height, left : left + width][mask].mean())
        seen = np.rint(pixels * 255).astype(np.uint8)
        crop = Crop(seen, *truth_of(page.marks, counts, areas, (total, stray), may_be_one(pixels)))
        yield crop._replace(trust=trusted(seen / 255, crop.label, crop.trust))


def of_texture(rng: np.random.Generator) -> Iterator[Crop]:
    """Yield all candidates that the reader finds in a picture without marks."""
    draw = (scenes.texture, scenes.scene, scenes.noise, scenes.blank)[int(rng.integers(4))]
    grey = draw(rng)
    scale = rng.uniform(1, 4)
    large = np.asarray(cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC), np.uint8)
    layout = lay_out(large)
    for pixels in layout.pixels:
        seen = np.rint(pixels * 255).astype(np.uint8)
        trust = trusted(seen / 255, NONDIGIT, LIKE if may_be_one(pixels) else SURE)
        yield Crop(seen, NONDIGIT, trust, "paper", "", False)


def of_cells(page: Page, rng: np.random.Generator) -> Iterator[Crop]:
    """Yield the digits of a table or sudoku, sharpened as out-of-focus cells are before they are read."""
    if page.kind not in ("table", "sudoku"):
        return
    level = find_ink(page.picture).level
    for number, mark in enumerate(page.marks, 1):
        scale = CELL_DIGIT / page.height * rng.uniform(0.75, 1.3)
        margin = page.height // 3
        top, left, bottom, right = (max(0, edge) for edge in np.add(mark.box, np.repeat([-margin, margin], 2)).tolist())
        if top >= bottom or left >= right:  # another mark lies over it
            continue
        inside = np.s_[top:bottom, left:right]
        ink = cv2.resize(level[inside].astype(np.float32), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        own = (page.layers[(number - 1) % 2][inside] == number).astype(np.uint8)
        found = _sharpened(ink, cv2.resize(own, ink.shape[::-1], interpolation=cv2.INTER_AREA) > 0)
        if found is not None:
            yield Crop(found, int(mark.text), SURE, "cell", mark.text, mark.printed)


def _sharpened(ink: NDArray[Any], own: Mask) -> NDArray[np.uint8] | None:
    """Bring the digit, whose pixels are about `own` [h, w], to the model's input; None if it hangs on a line."""
    sharp = ink + SHARP * (ink - cv2.GaussianBlur(ink, (0, 0), 0.1 * CELL_DIGIT))
    if not own.any():
        return None
    mask = (sharp > max(0.4 * float(np.quantile(sharp[own], 0.9)), 14.0)).astype(np.uint8)
    _, parts = cv2.connectedComponents(mask)
    counts = np.bincount(parts[own])
    counts[0] = 0
    digit = parts == int(counts.argmax())
    on_border = digit[0].any() or digit[-1].any() or digit[:, 0].any() or digit[:, -1].any()
    if not counts.any() or on_border or counts.max() < 0.6 * own.sum():
        return None
    full = float(np.quantile(sharp[digit], 0.75))
    pixels = np.where(grown(digit), sharp / full, np.float32(0)).clip(0, 1).astype(np.float32)
    return np.rint(normalise_strokes(place(pixels, digit))[0] * 255).astype(np.uint8)
