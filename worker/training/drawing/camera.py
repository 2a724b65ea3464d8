"""Simulates pictures of digits: pen, paper, light, lens, sensor and file, then the preprocessing of serving."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.image.normalise import normalise
from worker.training.data.idx import SIDE

Picture = NDArray[np.uint8]
Levels = NDArray[np.floating[Any]]

#: Sides of the pictures in pixels. Larger ones cost more and are reduced by serving anyway.
SIDES = (28, 96)
#: The largest rotation in degrees and the largest change of proportions, both beyond what MNIST's own digits get.
ROTATION, STRETCH = 27.0, 2.2


def seen(ink: Picture, rng: np.random.Generator) -> Picture:
    """Photograph a digit uint8 [n, n], ink 255 on 0, and normalise the picture as serving does: uint8 [28, 28].

    If serving loses the digit or a part of it, returns the plain digit normalised.
    """
    ink = _posed(ink, rng)
    plain = normalise(_placed(ink, max(ink.shape), rng)).pixels
    found = normalise(photographed(penned(ink, rng), rng)).pixels
    # A part of a digit may be another digit: learning it under the old label would teach nonsense.
    return np.rint((found if _alike(plain, found) else plain) * 255).astype(np.uint8)


def _posed(ink: Picture, rng: np.random.Generator) -> Picture:
    """Add a margin; sometimes turn the digit, narrow or widen it, or fit it to a square as some data sets do."""
    if rng.random() < 0.3:
        middle = ((len(ink) - 1) / 2,) * 2
        turn = cv2.getRotationMatrix2D(middle, rng.uniform(-ROTATION, ROTATION), 0.9)
        ink = np.asarray(cv2.warpAffine(ink, turn, (len(ink), len(ink))), np.uint8)
    rows, columns = np.flatnonzero(ink.max(axis=1) > 64), np.flatnonzero(ink.max(axis=0) > 64)
    if not len(rows):
        return ink
    cut = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    way = rng.random()
    if way < 0.4:
        square = len(cut) / cut.shape[1]
        wider = float(np.clip(square, 1 / STRETCH, STRETCH)) if way < 0.2 else STRETCH ** rng.uniform(-0.9, 0.9)
        cut = _resized(cut, max(2, round(cut.shape[1] * wider)), len(cut), cv2.INTER_LINEAR)
    return np.pad(cut, max(cut.shape) // 6)


def _alike(one: NDArray[np.float32], other: NDArray[np.float32]) -> bool:
    """Tell whether the cosine of the pictures is at least 0.85, after a blur, so that stroke width counts less."""
    a, b = cv2.GaussianBlur(one, (0, 0), 1.0).ravel(), cv2.GaussianBlur(other, (0, 0), 1.0).ravel()
    return bool(a @ b >= 0.85 * np.linalg.norm(a) * np.linalg.norm(b) and b.any())


def penned(ink: Picture, rng: np.random.Generator) -> Picture:
    """Draw the digit with a pen, a marker, a hairline or a mouse, or as a few pixels: uint8 [side, side]."""
    kind = rng.random()
    if kind < 0.3:
        return _small(ink, rng)
    side = int(rng.integers(*SIDES))
    large = _scaled(ink, round(side * rng.uniform(0.55, 1.25)))
    if kind < 0.6:  # a pen has sharp edges: the level at which they are cut decides its width
        large = ((large.astype(np.float32) - rng.uniform(50, 215)) * rng.uniform(2, 20) + 128).clip(0, 255)
        large = large.astype(np.uint8)
    elif kind < 0.75:
        large = _hairline(large, rng)
    if rng.random() < 0.15:
        large = _thicker(large, int(rng.integers(1, 1 + max(1, max(large.shape) // SIDE))))
    return _placed(large, side, rng)


def _small(ink: Picture, rng: np.random.Generator) -> Picture:
    """Draw it with a mouse on a 28x28 canvas, or scan it at 10 to 20 pixels: pixelated, often thick, sometimes soft."""
    on_canvas = rng.random() < 0.6
    side = SIDE if on_canvas else int(rng.integers(10, 20))
    small = _scaled(ink, round(side * rng.uniform(0.7, 1.3)))
    if rng.random() < 0.6:
        small = np.where(small > rng.uniform(60, 150), 255, 0).astype(np.uint8)
    if on_canvas and rng.random() < 0.4:
        small = _thicker(small, 1)
    if on_canvas and rng.random() < 0.4:
        small = np.asarray(cv2.GaussianBlur(small, (0, 0), rng.uniform(0.3, 0.8)), np.uint8)
    return _placed(small, side + 2, rng)


def _hairline(large: Picture, rng: np.random.Generator) -> Picture:
    """Reduce the strokes to their ridge, furthest from the paper, one or two pixels wide; thicken it to close gaps."""
    distance = cv2.distanceTransform((large > 127).astype(np.uint8), cv2.DIST_L2, 5)
    ridge = (distance >= cv2.dilate(distance, np.ones((5, 5))) - 0.6) & (distance > 0.9)
    line = _thicker(np.where(ridge, 255, 0).astype(np.uint8), 1)
    return np.asarray(cv2.GaussianBlur(line, (0, 0), rng.uniform(0.3, 0.8)), np.uint8)


def _placed(digit: Picture, side: int, rng: np.random.Generator) -> Picture:
    """Put the digit anywhere in a square with a margin of one pixel; reduce it if needed."""
    rows, columns = np.flatnonzero(digit.max(axis=1) > 64), np.flatnonzero(digit.max(axis=0) > 64)
    paper = np.zeros((side, side), np.uint8)
    if not len(rows):
        return paper
    cut = digit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    if max(cut.shape) > side - 2:
        factor = (side - 2) / max(cut.shape)
        width, height = (max(1, int(length * factor)) for length in (cut.shape[1], cut.shape[0]))
        cut = _resized(cut, width, height, cv2.INTER_AREA)
    top, left = (int(rng.integers(1, side - length)) for length in cut.shape)
    paper[top : top + cut.shape[0], left : left + cut.shape[1]] = cut
    return paper


def photographed(ink: Picture, rng: np.random.Generator, side: float | None = None) -> Picture:
    """Ink 255 on 0 -> grey levels of a picture of it: dark on light or the reverse, shaded, blurred, noisy, a JPEG.

    `side` is that of a picture of one digit, in pixels, by which it is blurred; that of this picture if None.
    """
    dark, light = rng.uniform(0, 90), rng.uniform(150, 255)
    on_screen = rng.random() < 0.35  # a drawing program has neither light nor lens
    if on_screen:
        dark, light = 0.0, 255.0
    covered = (255 - ink if rng.random() < 0.7 else ink).astype(np.float32) / np.float32(255)
    levels: Levels = np.float32(dark) + np.float32(light - dark) * covered
    if not on_screen:
        levels = _through_a_lens(levels, side or len(levels), rng)
    grey = np.rint(levels).clip(0, 255).astype(np.uint8)
    if rng.random() < 0.4:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(35, 95))]
        return np.asarray(cv2.imdecode(cv2.imencode(".jpg", grey, quality)[1], cv2.IMREAD_GRAYSCALE), np.uint8)
    return grey


def _through_a_lens(levels: Levels, side: float, rng: np.random.Generator) -> Levels:
    """Uneven light, blur, and the noise of the sensor."""
    rows, columns = (np.linspace(-1, 1, length, dtype=np.float32) for length in levels.shape)
    across, down = rng.normal(0, 0.08, 2).astype(np.float32)
    levels = levels * (1 + across * columns + down * rows[:, None])
    blurred = cv2.GaussianBlur(levels, (0, 0), rng.uniform(0.1, 0.018 * side + 0.3))
    return blurred + rng.normal(0, rng.uniform(0, 7), levels.shape)


def _thicker(picture: Picture, pixels: int) -> Picture:
    return np.asarray(cv2.dilate(picture, np.ones((2, 2), np.uint8), iterations=pixels), np.uint8)


def _resized(picture: Picture, width: int, height: int, way: int) -> Picture:
    return np.asarray(cv2.resize(picture, (width, height), interpolation=way), np.uint8)


def _scaled(picture: Picture, longer: int) -> Picture:
    """The picture with its longer side so long."""
    factor = longer / max(picture.shape)
    height, width = (max(2, round(length * factor)) for length in picture.shape)
    return _resized(picture, width, height, cv2.INTER_CUBIC if factor > 1 else cv2.INTER_AREA)
