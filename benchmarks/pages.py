"""Measures what pages of digits cost a worker, in CPU time by stage.

    python -m benchmarks.pages [ROUNDS]        prints it; the worker's queue adds less than a millisecond

A page has rows of numbers of five of the golden digits, dark on paper in uneven light, with a little noise: a small
PNG, and photos of 12 megapixels, also ruled, or with a thousand digits.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from io import BytesIO
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image

from benchmarks.picture import recorded
from shared.prediction import Outcome
from shared.settings import SHIPPED_MODEL
from worker.inference import numbers_classifier, read_pages
from worker.inference.classify import Classifier
from worker.inference.mlp import Mlp
from worker.inference.numbers_classifier import NumbersClassifier

#: Digits of a number.
NUMBER = 5
#: What is timed, by the name of its function. The reading as one digit and the model overlap.
STAGES = {
    "__call__": "as one digit", "decode_page": "decode", "find_grid": "tables", "lay_out": "layout", "read": "model",
    "page_digits": "decisions",
}  # fmt: skip


class Kind(NamedTuple):
    """A page: its format, height and width in pixels, rows, digits of a row, and whether it is ruled."""

    format: str
    height: int
    width: int
    rows: int
    row: int
    ruled: bool = False


KINDS = {
    "0.8 MP, 100 digits, PNG": Kind("PNG", 990, 780, 10, 10),
    "12 MP, 100 digits": Kind("JPEG", 4000, 3000, 10, 10),
    "12 MP, 100 digits, ruled": Kind("JPEG", 4000, 3000, 10, 10, True),
    "12 MP, 1,000 digits": Kind("JPEG", 4000, 3000, 40, 25),
    "12 MP, 1,000 digits, ruled": Kind("JPEG", 4000, 3000, 40, 25, True),
}


def page(kind: Kind) -> bytes:
    """Return the page as a file."""
    rng = np.random.default_rng(0)
    down, across = kind.height / (kind.rows + 1), kind.width / (kind.row + 2 * (kind.row // NUMBER) + 1)
    side = round(min(0.6 * down, 1.0 * across))
    ink = np.zeros((kind.height, kind.width), np.float32)
    images = recorded()[0]
    for at, digit in enumerate(rng.integers(len(images), size=kind.rows * kind.row)):
        row, column = divmod(at, kind.row)
        top, left = int((row + 0.6) * down), int((column + 2 * (column // NUMBER) + 1) * across)
        part = ink[top : top + side, left : left + side]
        part += cv2.resize(images[digit], (side, side), interpolation=cv2.INTER_CUBIC)[: len(part), : part.shape[1]]
    if kind.ruled:
        thick = max(1, side // 25)
        for row in range(kind.rows):
            line = int((row + 0.6) * down + 0.95 * side)
            ink[line : line + thick] = np.maximum(ink[line : line + thick], 90)
    light = np.linspace(235, 190, kind.width, dtype=np.float32)[:, None] * np.float32([1, 0.97, 0.9])
    noise = rng.normal(0, 4, (*ink.shape, 3)).astype(np.float32)
    colours = (light + noise) * (1 - 0.75 * ink.clip(0, 255) / 255)[..., None]
    out = BytesIO()
    Image.fromarray(colours.clip(0, 255).astype(np.uint8)).save(out, kind.format, quality=90)
    return out.getvalue()


def timed(spent: dict[str, float], name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function with its CPU time added to `spent`."""

    def run(*args: Any, **named: Any) -> Any:
        start = time.process_time()
        try:
            return function(*args, **named)
        finally:
            spent[name] += 1000 * (time.process_time() - start)

    return run


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    model = Mlp.to_serve(SHIPPED_MODEL, "cpu")
    classifier = NumbersClassifier(Classifier(model, 10**8))
    spent: dict[str, float] = defaultdict(float)
    for owner, name in (
        (Classifier, "__call__"), (numbers_classifier, "decode_page"), (read_pages, "find_grid"),
        (read_pages, "lay_out"), (read_pages, "page_digits"), (model, "read"),
    ):  # fmt: skip
        setattr(owner, name, timed(spent, name, getattr(owner, name)))
    print(f"{'CPU ms':28}{'a page':>8}" + "".join(f"{stage:>14}" for stage in STAGES.values()) + "  digits  accepted")
    for title, kind in KINDS.items():
        picture = page(kind)
        classifier([picture])  # the first call loads OpenCV
        spent.clear()
        costs = []
        for _ in range(rounds):
            start = time.process_time()
            [outcome] = classifier([picture]).results
            costs.append(1000 * (time.process_time() - start))
        numbers = outcome.page.numbers if isinstance(outcome, Outcome) and outcome.page else ()
        decisions = [digit.decision for number in numbers for digit in number.digits]
        stages = "".join(f"{spent[name] / rounds:14.0f}" for name in STAGES)
        print(f"{title:28}{statistics.median(costs):8.0f}{stages}{len(decisions):8}{decisions.count('accept'):10}")


if __name__ == "__main__":
    main()
