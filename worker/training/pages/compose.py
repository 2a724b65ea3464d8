"""Composes pages of numbers with their truth: rows, equations, tables and sudokus on paper, photographed.

A page is composed of marks (see `marks`), set in rows with any gaps, touching and overlapping among them, on blank,
ruled or squared paper, turned a little, and photographed (see `worker.training.drawing.camera`).
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.image.components import bounding_boxes
from worker.training.data.idx import Images, Labels
from worker.training.drawing.camera import photographed
from worker.training.drawing.letters import Font, Picture, fonts
from worker.training.drawing.scenes import smooth
from worker.training.pages.marks import SOFT, Hand
from worker.training.pages.sheets import KINDS, Sheet, written

#: Heights of digits, in pixels.
HEIGHTS = (11, 60)
#: The largest turn in degrees, and the farthest that perspective moves a corner, as a part of the page.
TURN, TILT = 12.0, 0.04
#: The share of pages, and that of tables and sudokus, that are out of focus, and the standard deviation of their blur,
#: in heights of a digit.
OUT_OF_FOCUS, FOCUS = (0.1, 0.4), (0.03, 0.09)


class Mark(NamedTuple):
    """One mark of a page."""

    #: The digit, letter or sign.
    text: str
    #: `digit`, `letter` or `sign`.
    kind: str
    #: The row that it stands in, from 0.
    row: int
    #: Top, left, bottom and right, in pixels; the last two are one past it.
    box: tuple[int, int, int, int]
    #: Whether it was set in a font.
    printed: bool


class Page(NamedTuple):
    """A page with its truth."""

    kind: str
    #: Grey levels uint8 [H, W].
    picture: Picture
    #: In reading order.
    marks: list[Mark]
    #: The ink of marks before it was photographed: 0, or 1 + the number of the mark, int32 [2, H, W]. Neighbours are in
    #: different layers: where they overlap, both are known.
    layers: NDArray[np.int32]
    #: Ruling and frames: bool [H, W].
    ruling: NDArray[np.bool_]
    #: Of a digit, in pixels.
    height: int
    #: The digits of each row; in tables and sudokus those of a row of cells, with a dot for an empty cell of a sudoku.
    lines: tuple[str, ...]


def compose(
    images: Images, labels: Labels, rng: np.random.Generator, *, kind: str | None = None, held_out: bool = False
) -> Page:
    """Compose a page of the kind, any of `KINDS` if None, from handwritten digits uint8 [n, 28, 28] and fonts.

    With `held_out` the fonts are those held out.
    """
    odds = np.array(list(KINDS.values()), np.float64)
    kind = kind or str(rng.choice(list(KINDS), p=odds / odds.sum()))
    hand = _hand(images, labels, rng, held_out)
    sheet = written(kind, hand, rng)
    return photograph(kind, sheet, hand, rng, OUT_OF_FOCUS[kind in ("table", "sudoku")])


def _hand(images: Images, labels: Labels, rng: np.random.Generator, held_out: bool) -> Hand:
    """A writer, or a font of any family."""
    low, high = np.log(HEIGHTS)
    height = int(np.exp(rng.uniform(low, high)))
    faces = families(held_out) if rng.random() < 0.45 else ()
    face = faces[int(rng.integers(len(faces)))] if faces else None
    font = face[int(rng.integers(len(face)))] if face else None
    return Hand(height, font, rng.uniform(0.05, 0.17), rng.uniform(0.6, 1.0), images, labels)


def families(held_out: bool) -> tuple[tuple[Font, ...], ...]:
    """The fonts by family: one with many weights is no more frequent."""
    found: dict[str, list[Font]] = defaultdict(list)
    for font in fonts(held_out):
        found[str(font.getname()[0]) if hasattr(font, "getname") else ""].append(font)
    return tuple(map(tuple, found.values()))


def photograph(kind: str, sheet: Sheet, hand: Hand, rng: np.random.Generator, out_of_focus: float) -> Page:
    """Turn and tilt the sheet, put it on paper that is not quite even, and photograph it; some out of focus."""
    matrix, (width, height) = _view(sheet.ink.shape, rng)

    def seen(layer: NDArray[np.floating] | Picture, way: int = cv2.INTER_LINEAR) -> NDArray[Any]:
        return np.asarray(cv2.warpPerspective(layer, matrix, (width, height), flags=way))

    ink, ruling = seen(sheet.ink).astype(np.uint8), seen(sheet.ruling).astype(np.uint8)
    layers = np.stack([seen(layer.astype(np.float32), cv2.INTER_NEAREST) for layer in sheet.layers]).astype(np.int32)
    paper = np.float32(rng.uniform(0, 25)) * (1 + smooth(height, width, int(rng.integers(2, 9)), rng))
    covered = np.maximum(np.maximum(ink, ruling), paper).clip(0, 255).astype(np.uint8)
    if rng.random() < out_of_focus:
        covered = np.asarray(cv2.GaussianBlur(covered, (0, 0), hand.height * rng.uniform(*FOCUS)), np.uint8)
    picture = photographed(covered, rng, hand.height / 0.6)
    low, high = np.minimum.reduce, np.maximum.reduce
    boxes = [bounding_boxes(layer.astype(np.intp), len(sheet.marks)) for layer in layers]
    corners = np.concatenate([low([box[0] for box in boxes]), high([box[1] for box in boxes])]).T.tolist()
    marks = [
        Mark(mark.text, mark.kind, row, tuple(box), printed)
        for (mark, row, printed), box in zip(sheet.marks, corners, strict=True)
    ]
    lines = tuple(sheet.lines[row] for row in sorted(sheet.lines))
    return Page(kind, picture, marks, layers, ruling > SOFT // 4, hand.height, lines)


def _view(shape: tuple[int, ...], rng: np.random.Generator) -> tuple[NDArray[np.float64], tuple[int, int]]:
    """The matrix by which a camera that is not held straight sees a sheet, and the size of what it sees."""
    height, width = shape
    turn = np.deg2rad(np.clip(rng.normal(0, TURN / 3), -TURN, TURN) * (rng.random() < 0.7))
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64)
    around = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    tilt = rng.uniform(-TILT, TILT, (4, 2)) * (rng.random() < 0.4)
    placed = corners @ around + tilt * [width, height]
    placed -= placed.min(axis=0)
    size = np.ceil(placed.max(axis=0)).astype(int)
    matrix = cv2.getPerspectiveTransform(corners.astype(np.float32), placed.astype(np.float32))
    return np.asarray(matrix, np.float64), (int(size[0]), int(size[1]))
