"""Digits as they are drawn, photographed and sent."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageDraw

from worker.image.mnist_format import CENTRE, SIDE
from worker.image.normalise import normalise
from worker.training.drawing import strokes

Grey = np.ndarray
#: Polylines in a unit square, x before y.
STROKES = {
    1: [[(0.5, 0.0), (0.5, 1.0)]],
    4: [[(0.6, 0.0), (0.05, 0.65), (0.9, 0.65)], [(0.65, 0.35), (0.65, 1.0)]],
    5: [[(0.8, 0.0), (0.2, 0.0), (0.15, 0.45), (0.6, 0.4), (0.85, 0.65), (0.6, 1.0), (0.1, 0.95)]],
    7: [[(0.1, 0.0), (0.9, 0.0), (0.4, 1.0)]],
    8: [[(0.5, 0.5), (0.2, 0.2), (0.5, 0), (0.8, 0.2), (0.5, 0.5), (0.1, 0.75), (0.5, 1), (0.9, 0.75), (0.5, 0.5)]],
}
DIGITS = pytest.mark.parametrize("number", STROKES)


def drawn(
    number: int,
    width: int = 200,
    height: int = 200,
    size: float = 120,
    at: tuple[float, float] = (40, 40),
    pen: float = 0.1,
) -> Grey:
    """Ink in [0, 1], drawn four times finer; `at` is the upper left corner, the pen's width a part of the size."""
    image = Image.new("L", (4 * width, 4 * height))
    draw, radius = ImageDraw.Draw(image), 2 * pen * size
    for stroke in STROKES[number]:
        points = [(4 * (at[0] + x * size), 4 * (at[1] + y * size)) for x, y in stroke]
        draw.line(points, fill=255, width=round(2 * radius))
        for x, y in points:
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    return np.asarray(image.reduce(4), np.float64) / 255


def black_on_white(ink: Grey) -> Grey:
    return np.rint(255 - 255 * ink).astype(np.uint8)


def on(paper: Grey | float, ink: Grey, depth: float = 0.7, noise: float = 0) -> Grey:
    """Ink that lets `1 - depth` of the light on the paper through."""
    levels = paper * (1 - depth * ink) + np.random.default_rng(0).normal(0, noise, ink.shape)
    return np.rint(levels).clip(0, 255).astype(np.uint8)


def as_in_mnist(number: int) -> Grey:
    """A digit as MNIST has it: white on black, in a 20 x 20 box, in its place."""
    ink = drawn(number, SIDE, SIDE, size=17.5, at=(5.2, 5.2), pen=0.12)
    middles = np.arange(SIDE) + 0.5
    shift = [int(np.floor(CENTRE - ink.sum(axis=1 - axis) @ middles / ink.sum() + 0.5)) for axis in (0, 1)]
    return np.rint(255 * np.roll(ink, shift, (0, 1))).astype(np.uint8)


def encoded(grey: Grey, format: str = "PNG") -> bytes:
    out = BytesIO()
    Image.fromarray(grey).save(out, format)
    return out.getvalue()


def digits(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Digits as MNIST has them, as far as we draw any: uint8 [n, 28, 28], and their labels uint8 [n]."""
    rng = np.random.default_rng(0)
    labels = rng.choice(list(strokes.FORMS), n)
    plain = [normalise(strokes.draw(int(label), 56, rng)).pixels for label in labels]
    return np.rint(np.stack(plain) * 255).astype(np.uint8), labels.astype(np.uint8)
