"""Measures how many rows of handwritten digits are wholly right, and sorts the mistakes by their cause.

    python -m benchmarks.rows --data var/mnist --pages 100 --seed 1

Pages of one row or of several are composed of MNIST's test digits as people write them: telephone numbers, dates,
amounts, marks. A writer has a pen, a slant, a gap; digits stand higher and lower; on two pages in three none touch, on
the others up to one neighbour in five. The paper is blank, ruled or squared, and photographed in focus.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import cv2
import numpy as np

from shared.numbers import FoundDigit, PageReading
from shared.prediction import Outcome
from shared.settings import SHIPPED_MODEL
from worker.image.arrays import Grey
from worker.inference.classify import Classifier
from worker.inference.mlp import Mlp
from worker.inference.numbers_classifier import NumbersClassifier
from worker.page.ink import stroke_width
from worker.training.data.idx import load_mnist
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
#: A mark is in a box that holds this share of its ink.
INSIDE = 0.6

CAUSES = ("not found", "not cut", "cut wrongly", "misread", "refused", "extra", "parted wrongly")


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


def composed(data: Path, rows: int, count: int, seed: int) -> Iterator[Page]:
    """Yield that many pages, of one row, or of several if `rows` is more than one."""
    mnist, rng = load_mnist(data), np.random.default_rng([seed, rows])
    widths = np.array([stroke_width(image > SOFT) for image in mnist.test_images])
    for _ in range(count):
        height = int(np.exp(rng.uniform(*np.log(HEIGHTS))))
        pen = float(np.quantile(widths, rng.uniform(0.1, 0.8)))
        own = np.flatnonzero(np.abs(np.log(widths / pen)) < SAME_PEN)
        hand = Hand(height, None, PEN, rng.uniform(0.7, 1.0), mnist.test_images[own], mnist.test_labels[own], 0.0)
        touching = rng.uniform(0.02, TOUCHED) if rng.random() < TOUCHING else 0.0
        writer = Writer(
            hand, rng.uniform(0.12, 0.6), rng.uniform(0.03, 0.1), rng.normal(0, 0.02), rng.uniform(0.02, 0.09),
            rng.normal(0.05, 0.12), touching,
        )  # fmt: skip
        written = _written(writer, int(rng.integers(2, rows + 1)) if rows > 1 else 1, rng)
        yield photograph("touching" if touching else "apart", written, hand, rng, 0.0)


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


def mistakes(page: Page, read: PageReading) -> list[str]:
    """Return the causes for which a page is not wholly right; none if it is."""
    texts = [number.text for number in read.numbers if number.text]
    if texts == [line for line in page.lines if line]:
        return []
    whole = np.bincount(page.layers.ravel(), minlength=len(page.marks) + 1)[1:]
    left, causes = {at for at, mark in enumerate(page.marks) if mark.kind == "digit"}, []
    for one in read.digits:
        held = _inside(page, one, whole)
        true = [at for at in held if page.marks[at].kind == "digit"]
        again = [at for at in true if at not in left]
        left.difference_update(true)
        if one.decision == "reject":
            causes += ["refused"] * len(true)
        elif len(true) > 1:
            causes.append("not cut")
        elif not true or again:
            causes.append("extra" if held or not _touched(page, one) else "cut wrongly")
        elif page.marks[true[0]].text != str(one.digit):
            causes.append("misread")
    causes += ["not found"] * len(left)
    return causes or ["parted wrongly"]


def _inside(page: Page, one: FoundDigit, whole: np.ndarray) -> list[int]:
    x, y, width, height = one.box
    counts = np.bincount(page.layers[:, y : y + height, x : x + width].ravel(), minlength=len(page.marks) + 1)[1:]
    return np.flatnonzero((counts >= INSIDE * whole) & (whole > 0)).tolist()


def _touched(page: Page, one: FoundDigit) -> bool:
    x, y, width, height = one.box
    return bool(page.layers[:, y : y + height, x : x + width].any())


def reading(classifier: NumbersClassifier, picture: Grey) -> PageReading:
    """Return what is read in a picture; nothing if it cannot be read."""
    [outcome] = classifier([picture]).results
    return (outcome.page if isinstance(outcome, Outcome) else None) or PageReading()


@click.command()
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Directory of the four MNIST files.")
@click.option("--pages", "count", default=100, show_default=True, help="Pages of one row, and of several.")
@click.option("--model", "path", type=click.Path(path_type=Path), default=SHIPPED_MODEL)
@click.option("--seed", default=0, show_default=True)
def main(data: Path, count: int, path: Path, seed: int) -> None:
    """Print the shares, and the mistakes by their cause."""
    classifier = NumbersClassifier(Classifier(Mlp.to_serve(path, "cpu"), 10**8))
    for name, rows in (("one row", 1), ("several rows", MOST_ROWS)):
        found = [
            (page.kind, mistakes(page, reading(classifier, page.picture))) for page in composed(data, rows, count, seed)
        ]
        for kind in ("apart", "touching"):
            some = [causes for page, causes in found if page == kind]
            counts = Counter(cause for causes in some for cause in causes)
            told = ", ".join(f"{cause} {counts[cause]}" for cause in CAUSES if counts[cause])
            right = sum(not causes for causes in some)
            click.echo(f"{name}, {kind:8}: {right:3} of {len(some):3} wholly right ({right / len(some):4.0%}); {told}")


if __name__ == "__main__":
    main()
