"""Composes pages of numbers as people write them: one hand, one pen, one slant, a row or several.

A writer has a pen, a slant, a gap; digits stand higher and lower; on two pages in three none touch, on the others up to
one neighbour in five. The paper is blank, ruled or squared, and photographed in focus.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from worker.image.arrays import Floats64
from worker.page.ink import stroke_width
from worker.training.data.idx import Images, Labels
from worker.training.drawing.letters import Picture
from worker.training.pages.compose import Page, photograph
from worker.training.pages.marks import SOFT, Hand, Ink
from worker.training.pages.sheets import Sheet, rule

#: Heights of digits in pixels; most rows of a page.
HEIGHTS, MOST_ROWS = (22, 90), 8
#: Forms of numbers, `#` for a digit. There is no slash: people tell it from a 1 by the form alone.
FORMS = (
    "#", "##", "###", "####", "#####", "######", "##########", "## ## ##", "### ####", "###-####", "####-######",
    "##.##.####", "#.#.##", "##,##", "#,#", "##:##",
)  # fmt: skip
#: The share of pages on which digits touch, and most of the neighbours that do there.
TOUCHING, TOUCHED = 1 / 3, 0.2
#: The strokes of a page's digits have about the same width, as a logarithm, and Hand.pen that keeps it.
SAME_PEN, PEN = 0.1, 0.1


class Writer(NamedTuple):
    """A hand and its layout of digits in rows; lengths are in heights of a digit."""

    hand: Hand
    #: The mean gap between digits, from ink to ink, and how much it varies.
    gap: float
    uneven: float
    #: How far a row climbs, and how much digits leave it.
    climb: float
    wander: float
    #: How far the top of a digit leans to the right.
    slant: float
    #: The share of neighbours that touch.
    touching: float


class Digits(NamedTuple):
    """Handwritten digits to write with."""

    #: uint8 [n, 28, 28] and [n].
    images: Images
    labels: Labels
    #: The width of each one's strokes, in pixels [n].
    strokes: Floats64

    @classmethod
    def of(cls, images: Images, labels: Labels) -> Digits:
        """Measure the strokes of images uint8 [n, 28, 28]."""
        return cls(images, labels, np.array([stroke_width(image > SOFT) for image in images]))


def write(digits: Digits, rows: int, rng: np.random.Generator, distorted: float = 0.0) -> Page:
    """Compose a page of one row, or of two to `rows`, of which that share of digits is distorted.

    Its kind is `touching` or `apart`.
    """
    height = int(np.exp(rng.uniform(*np.log(HEIGHTS))))
    pen = float(np.quantile(digits.strokes, rng.uniform(0.1, 0.8)))
    own = np.flatnonzero(np.abs(np.log(digits.strokes / pen)) < SAME_PEN)
    hand = Hand(height, None, PEN, rng.uniform(0.7, 1.0), digits.images[own], digits.labels[own], distorted)
    touching = rng.uniform(0.02, TOUCHED) if rng.random() < TOUCHING else 0.0
    writer = Writer(
        hand, rng.uniform(0.12, 0.6), rng.uniform(0.03, 0.1), rng.normal(0, 0.02), rng.uniform(0.02, 0.09),
        rng.normal(0.05, 0.12), touching,
    )  # fmt: skip
    written = _written(writer, int(rng.integers(2, rows + 1)) if rows > 1 else 1, rng)
    return photograph("touching" if touching else "apart", written, hand, rng, 0.0)


def _written(writer: Writer, rows: int, rng: np.random.Generator) -> Sheet:
    """Write rows, the same form in half of them, each a number."""
    height, forms = writer.hand.height, [str(rng.choice(FORMS)) for _ in range(rows)]
    if rng.random() < 0.5:
        forms = [forms[0]] * rows
    pitch = height * rng.uniform(1.5, 2.6)
    width = int(height * max(len(form) for form in forms) * (1 + writer.gap) + 3 * height)
    sheet = Sheet.blank(int((rows + 1.2) * pitch), min(width, 2400))
    rule(sheet, writer.hand, pitch, rng)
    for row, form in enumerate(forms):
        start = height * rng.uniform(0.6, 1.0), (row + 0.8) * pitch
        _row(sheet, writer, form, start, row, rng)
    return sheet


def _row(
    sheet: Sheet, writer: Writer, form: str, start: tuple[float, float], row: int, rng: np.random.Generator
) -> None:
    """Write a number from `start`, the x and y of its upper left corner."""
    height, edge = writer.hand.height, np.full(len(sheet.ink), start[0])
    for place, sign in enumerate(form):
        if sign == " ":
            edge += height * rng.uniform(0.3, 0.8)
            continue
        ink = writer.hand.digit(rng) if sign == "#" else writer.hand.sign(rng, sign)
        ink = _slanted(ink, writer.slant + rng.normal(0, 0.03))
        right = float(edge.max())
        leaves = writer.climb * (right - start[0]) / height + rng.normal(0, writer.wander)
        top = max(0, round(start[1] + (ink.top + leaves) * height))
        mask = ink.picture > SOFT
        inked, rows = mask.any(axis=1), np.s_[top : top + len(mask)]
        if not inked.any() or rows.stop > len(edge):
            continue
        touches = place and rng.random() < writer.touching
        gap = rng.uniform(-0.07, 0.0) if touches else max(0.05, rng.normal(writer.gap, writer.uneven))
        x = float((edge[rows] - mask.argmax(axis=1))[inked].max()) + gap * height
        x = round(max(x, right - 0.3 * height))
        sheet.put(ink, x, top, row, False)
        ends = x + mask.shape[1] - mask[:, ::-1].argmax(axis=1)
        edge[rows][inked] = np.maximum(edge[rows], ends)[inked]
        # A mark keeps off what is above and below it too, all the more where nothing touches.
        near = 2 * round(height * (0.05 if writer.touching else 0.2)) + 1
        edge = np.maximum(edge, cv2.dilate(edge[:, None], np.ones((near, 1)))[:, 0])


def _slanted(ink: Ink, slant: float) -> Ink:
    """Lean a mark to the right by that part of its height."""
    height, width = ink.picture.shape
    more = abs(slant) * height
    matrix = np.array([[1, -slant, max(0.0, slant) * height], [0, 1, 0]])
    leaning: Picture = np.asarray(cv2.warpAffine(ink.picture, matrix, (int(width + more + 1), height)), np.uint8)
    columns = np.flatnonzero((leaning > SOFT).any(axis=0))
    return ink._replace(picture=leaning[:, columns[0] : columns[-1] + 1]) if columns.size else ink
