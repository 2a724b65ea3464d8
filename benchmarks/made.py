"""Draws sources that people have and the albums lack, for `benchmarks.learning`; they are made, and named so.

Each has a habit that its digits share: a display of seven segments, and a writer who slashes the 0; the writer's other
digits are MNIST's test digits. Every picture is drawn anew: larger or smaller, thicker or thinner, sharper or softer.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from worker.image.arrays import Grey
from worker.training.data.idx import Mnist

#: Pictures of a source.
PICTURES = 120
#: Pixels of a picture.
HEIGHT, WIDTH = 220, 180
#: The segments of a display as lines from x, y to x, y in a box of 1 x 2, and those of each digit.
SEGMENTS = {
    "A": (0, 0, 1, 0), "B": (1, 0, 1, 1), "C": (1, 1, 1, 2), "D": (0, 2, 1, 2), "E": (0, 1, 0, 2), "F": (0, 0, 0, 1),
    "G": (0, 1, 1, 1),
}  # fmt: skip
LIT = ("ABCDEF", "BC", "ABDEG", "ABCDG", "BCFG", "ACDFG", "ACDEFG", "ABC", "ABCDEFG", "ABCDFG")


def display(digit: int, _: Mnist, rng: np.random.Generator) -> Grey:
    """Draw a digit of a seven-segment display, with gaps between the segments; ink uint8 [HEIGHT, WIDTH]."""
    ink, width = np.zeros((HEIGHT, WIDTH), np.uint8), int(rng.integers(44, 62))
    pen, gap, lean = int(rng.integers(9, 17)), rng.uniform(0.1, 0.18), rng.uniform(0.0, 0.16)
    for left, top, right, bottom in (SEGMENTS[name] for name in LIT[digit]):
        ends = np.array([[left, top], [right, bottom]], float)
        ends += (ends.mean(axis=0) - ends) * 2 * gap
        x, y = 45 + width * (ends[:, 0] + lean * (2 - ends[:, 1])), 45 + width * ends[:, 1]
        cv2.line(ink, (round(x[0]), round(y[0])), (round(x[1]), round(y[1])), 255, pen)
    return ink


def writer(digit: int, mnist: Mnist, rng: np.random.Generator) -> Grey:
    """Draw one of MNIST's test digits, and a slash through a 0; ink uint8 [HEIGHT, WIDTH]."""
    images = mnist.test_images[mnist.test_labels == digit]
    large = cv2.resize(images[rng.integers(len(images))], (168, 168), interpolation=cv2.INTER_CUBIC)
    ink = np.pad(large, ((26, 26), (6, 6)))
    if digit == 0:
        rows, columns = np.nonzero(ink > 128)
        left, right = rng.integers(-6, 7, 2)
        start, end = (columns.min() + left, rows.max()), (columns.max() + right, rows.min())
        cv2.line(ink, (int(start[0]), int(start[1])), (int(end[0]), int(end[1])), 255, int(rng.integers(8, 13)))
    return ink


def make(folder: Path, mnist: Mnist) -> Path:
    """Write the pictures and their `index.csv`, always the same, as an album has one. Returns the folder."""
    rows = ["path,label,category,source"]
    for source, draw in {"seven-segment display": display, "slashed 0": writer}.items():
        name = draw.__name__
        (folder / name).mkdir(parents=True, exist_ok=True)
        for at in range(PICTURES):
            rng = np.random.default_rng([at, *name.encode()])
            digit = 0 if draw is writer and at % 3 == 0 else at % 10
            cv2.imwrite(str(folder / name / f"{at}.png"), _seen(draw(digit, mnist, rng), rng))
            rows.append(f'{name}/{at}.png,{digit},made,"made, {source}"')
    (folder / "index.csv").write_text("\n".join(rows) + "\n")
    return folder


def _seen(ink: Grey, rng: np.random.Generator) -> Grey:
    """Put ink on paper, turned a little, larger or smaller, softer or sharper, with noise."""
    turn = cv2.getRotationMatrix2D((WIDTH / 2, HEIGHT / 2), rng.uniform(-7, 7), rng.uniform(0.75, 1.05))
    ink = cv2.GaussianBlur(cv2.warpAffine(ink, turn, (WIDTH, HEIGHT)), (0, 0), rng.uniform(0.6, 3))
    paper, dark = rng.uniform(215, 250), rng.uniform(0.6, 0.95)
    noise = rng.normal(0, rng.uniform(0, 4), ink.shape)
    return np.asarray(np.clip(paper * (1 - dark * ink / 255) + noise, 0, 255), np.uint8)
