"""Measures how many rows of handwritten digits are wholly right, and sorts the mistakes by their cause.

    python -m benchmarks.rows --data var/mnist --pages 100 --seed 1

Pages of one row or of several are composed of MNIST's test digits: telephone numbers, dates, amounts, marks. See
`worker.training.pages.writing`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np

from shared.numbers import FoundDigit, PageReading
from shared.prediction import Outcome
from shared.settings import SHIPPED_MODEL
from worker.image.arrays import Grey
from worker.inference.classify import Classifier
from worker.inference.mlp import Mlp
from worker.inference.numbers_classifier import NumbersClassifier
from worker.training.data.idx import load_mnist
from worker.training.pages.compose import Page
from worker.training.pages.writing import MOST_ROWS, Digits, write

#: A mark is in a box that holds this share of its ink.
INSIDE = 0.6

CAUSES = ("not found", "not cut", "cut wrongly", "misread", "refused", "extra", "parted wrongly")


def composed(data: Path, rows: int, count: int, seed: int) -> Iterator[Page]:
    """Yield that many pages, of one row, or of several if `rows` is more than one."""
    mnist, rng = load_mnist(data), np.random.default_rng([seed, rows])
    digits = Digits.of(mnist.test_images, mnist.test_labels)
    for _ in range(count):
        yield write(digits, rows, rng)


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
