"""Measures how many ruled tables of numbers are found, and how many of their cells are right.

    python -m benchmarks.tables --data var/mnist --pages 40 --seed 1

Tables are composed of MNIST's test digits or set in fonts, as people rule and fill them: lists of marks with a row of
words at the top, cards of a meter, forms with a box for each digit. Lines are pale, thin or broken; a third of the
pages is photographed at a slant. With --turned each page is turned by a quarter, a half or three quarters too.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import cv2
import numpy as np

from benchmarks.rows import reading
from shared.numbers import PageReading
from shared.settings import SHIPPED_MODEL
from worker.image.arrays import Grey
from worker.inference.classify import Classifier
from worker.inference.mlp import Mlp
from worker.inference.numbers_classifier import NumbersClassifier
from worker.training.data.idx import Mnist, load_mnist
from worker.training.drawing.camera import photographed
from worker.training.drawing.scenes import smooth
from worker.training.pages.compose import families
from worker.training.pages.marks import Hand, Ink
from worker.training.pages.sheets import Sheet
from worker.training.pages.writing import PEN, SAME_PEN, Digits

#: Heights of digits in pixels.
HEIGHTS = (18, 60)


class Kind(NamedTuple):
    """Rows, columns and digits of a cell, from and to, and what is special."""

    rows: tuple[int, int] = (2, 12)
    columns: tuple[int, int] = (2, 6)
    digits: tuple[int, int] = (1, 4)
    #: The share of cells that are empty.
    empty: float = 0.1
    #: Whether the first row has words.
    words: bool = False
    #: The share of pieces of lines between crossings that have a gap, and the level of the lines, 0 to 255.
    broken: float = 0.0
    level: tuple[int, int] = (90, 220)
    #: How far a corner is moved by perspective, as a share of the page, and the largest turn in degrees.
    tilt: float = 0.03
    turn: float = 3.0


KINDS = {
    "plain": Kind(),
    "many empty": Kind(empty=0.6),
    "header": Kind(rows=(3, 12), words=True),
    "one digit a cell": Kind(rows=(2, 8), columns=(3, 10), digits=(1, 1)),
    "long numbers": Kind(columns=(2, 4), digits=(4, 7)),
    "pale lines": Kind(level=(30, 70)),
    "broken lines": Kind(broken=0.4),
    "at a slant": Kind(tilt=0.1, turn=12.0),
    "one column": Kind(rows=(3, 10), columns=(1, 1)),
    "a row of boxes": Kind(rows=(1, 1), columns=(4, 10), digits=(1, 1), empty=0.0),
}


class Page(NamedTuple):
    """A photo of a table, and the text of its cells; None where there are words."""

    picture: Grey
    cells: list[list[str | None]]


def composed(mnist: Mnist, kind: Kind, count: int, rng: np.random.Generator) -> Iterator[Page]:
    """Yield that many pages."""
    digits = Digits.of(mnist.test_images, mnist.test_labels)
    fonts = families(True)
    for _ in range(count):
        height = int(np.exp(rng.uniform(*np.log(HEIGHTS))))
        pen = float(np.quantile(digits.strokes, rng.uniform(0.1, 0.8)))
        own = np.flatnonzero(np.abs(np.log(digits.strokes / pen)) < SAME_PEN)
        face = fonts[int(rng.integers(len(fonts)))] if fonts and rng.random() < 0.4 else None
        font = face[int(rng.integers(len(face)))] if face else None
        hand = Hand(height, font, PEN, rng.uniform(0.7, 1.0), digits.images[own], digits.labels[own], 0.0)
        sheet, cells = written(kind, hand, rng)
        yield Page(seen(sheet, kind, hand, rng), cells)


def written(kind: Kind, hand: Hand, rng: np.random.Generator) -> tuple[Sheet, list[list[str | None]]]:
    """Rule a table and fill its cells."""
    height = hand.height
    rows, columns, most = (int(rng.integers(low, high + 1)) for low, high in (kind.rows, kind.columns, kind.digits))
    down = height * rng.uniform(1.5, 2.4)
    across = height * np.array([max(1.5, most * 0.9 + 0.8) * rng.uniform(1, 1.5) for _ in range(columns)])
    if rng.random() < 0.5 or kind.digits == (1, 1):
        across[:] = across.mean()
    xs = height * rng.uniform(0.7, 2) + np.array([0, *np.cumsum(across)])
    ys = height * rng.uniform(0.7, 2) + down * np.arange(rows + 1)
    sheet = Sheet.blank(int(ys[-1] + height * rng.uniform(0.7, 2)), int(xs[-1] + height * rng.uniform(0.7, 2)))
    rule(sheet, xs, ys, kind, hand, rng)
    cells: list[list[str | None]] = []
    for row in range(rows):
        cells.append([])
        for column in range(columns):
            if kind.words and row == 0:
                cells[-1].append(None)
                word = [hand.letter(rng) for _ in range(int(rng.integers(1, most + 1)))]
                fill(sheet, word, (xs[column], ys[row], across[column], down), row, hand, rng)
            elif rng.random() < kind.empty:
                cells[-1].append("")
            else:
                number = [hand.digit(rng) for _ in range(int(rng.integers(kind.digits[0], most + 1)))]
                cells[-1].append("".join(ink.text for ink in number))
                fill(sheet, number, (xs[column], ys[row], across[column], down), row, hand, rng)
    return sheet, cells


def fill(
    sheet: Sheet, marks: list[Ink], cell: tuple[float, float, float, float], row: int, hand: Hand,
    rng: np.random.Generator,
) -> None:  # fmt: skip
    """Write marks into a cell: its left, top, width and height."""
    gap = hand.height * rng.uniform(0.08, 0.3)
    width = sum(ink.picture.shape[1] + gap for ink in marks) - gap
    left, top, across, down = cell
    x = left + (across - width) * rng.uniform(0.3, 0.7)
    y = top + (down - hand.height) * rng.uniform(0.35, 0.65)
    for ink in marks:
        sheet.put(ink, int(x), int(y + ink.top * hand.height), row, hand.font is not None)
        x += ink.picture.shape[1] + gap


def rule(sheet: Sheet, xs: np.ndarray, ys: np.ndarray, kind: Kind, hand: Hand, rng: np.random.Generator) -> None:
    """Draw the lines of a table, piece by piece."""
    thick, level = max(1, round(hand.height * rng.uniform(0.02, 0.08))), int(rng.uniform(*kind.level))
    for paper, lines, ends in ((sheet.ruling, ys, xs), (sheet.ruling.T, xs, ys)):
        for line in lines.astype(int):
            paper[line : line + thick, int(ends[0]) : int(ends[-1]) + thick] = level
            for first, last in itertools.pairwise(ends):
                if rng.random() < kind.broken:
                    start, length = rng.uniform(0, 0.7), rng.uniform(0.1, 0.4)
                    gap = np.array([start, min(start + length, 1)]) * (last - first) + first
                    paper[line : line + thick, slice(*gap.astype(int))] = 0


def seen(sheet: Sheet, kind: Kind, hand: Hand, rng: np.random.Generator) -> Grey:
    """Photograph the sheet."""
    height, width = sheet.ink.shape
    turn = np.deg2rad(rng.uniform(-kind.turn, kind.turn))
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64)
    around = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    placed = corners @ around + rng.uniform(-kind.tilt, kind.tilt, (4, 2)) * [width, height]
    placed -= placed.min(axis=0)
    size = tuple(np.ceil(placed.max(axis=0)).astype(int).tolist())
    matrix = cv2.getPerspectiveTransform(corners.astype(np.float32), placed.astype(np.float32))
    ink, ruling = (cv2.warpPerspective(layer, matrix, size) for layer in (sheet.ink, sheet.ruling))
    paper = np.float32(rng.uniform(0, 25)) * (1 + smooth(size[1], size[0], int(rng.integers(2, 9)), rng))
    covered = np.maximum(np.maximum(ink, ruling), paper).clip(0, 255).astype(np.uint8)
    return photographed(covered, rng, hand.height / 0.6)


class Score(NamedTuple):
    """The score of one page: if the table was found, how many of its cells are right, and how many there are.

    One column or one row of cells makes no table: it is found if its digits are all read, in order, and no more.
    """

    found: bool
    right: int
    cells: int
    turned: bool = True


def scored(cells: list[list[str | None]], read: PageReading, quarters: int = 0) -> Score:
    """Compare the reading of a page with the text of its cells."""
    truth = [cell for row in cells for cell in row]
    turned = read.rotated == 90 * (-quarters % 4)
    if 1 in (len(cells), len(cells[0])):
        texts = "".join(cell or "" for cell in truth)
        whole = not read.grid and "".join(number.text for number in read.numbers) == texts
        return Score(whole, len(truth) * whole, len(truth), turned)
    if not read.grid or (len(read.grid.cells), len(read.grid.cells[0])) != (len(cells), len(cells[0])):
        return Score(False, 0, len(truth), turned)
    found = [cell for row in read.grid.cells for cell in row]
    right = sum(true is None or true == text for true, text in zip(truth, found, strict=True))
    return Score(True, right, len(truth), turned)


@click.command()
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Directory of the four MNIST files.")
@click.option("--pages", "count", default=40, show_default=True, help="Pages of each kind.")
@click.option("--model", "path", type=click.Path(path_type=Path), default=SHIPPED_MODEL)
@click.option("--seed", default=0, show_default=True)
@click.option("--turned", is_flag=True, help="Turn the pages by quarters too.")
def main(data: Path, count: int, path: Path, seed: int, turned: bool) -> None:
    """Print for each kind the shares of tables found and of cells right."""
    classifier, mnist = NumbersClassifier(Classifier(Mlp.to_serve(path, "cpu"), 10**8)), load_mnist(data)
    for number, (name, kind) in enumerate(KINDS.items()):
        rng = np.random.default_rng([seed, number])
        scores = []
        for at, page in enumerate(composed(mnist, kind, count, rng)):
            quarters = at % 4 if turned else 0
            picture = np.ascontiguousarray(np.rot90(page.picture, -quarters))
            read = reading(classifier, picture)
            scores.append(scored(page.cells, read, quarters))
        found = [one for one in scores if one.found]
        share = sum(one.right for one in found) / max(1, sum(one.cells for one in found))
        upright = f", {sum(one.turned for one in scores)} turned rightly" if turned else ""
        whole = sum(one.right == one.cells for one in found)
        click.echo(
            f"{name:18}{len(found):4} of {count} found, {share:6.1%} of their cells right, {whole} wholly{upright}"
        )


if __name__ == "__main__":
    main()
