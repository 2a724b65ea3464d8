"""Measures how many pages of a hundred digits one worker reads in a second of CPU, and the stages of a page.

    python -m benchmarks.pages [ROUNDS]        prints both; the worker's queue adds less than a millisecond

The page has ten rows of two numbers, of the golden digits, dark on paper with a little noise, as a PNG.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.picture import recorded
from shared.prediction import Outcome
from shared.settings import SHIPPED_MODEL
from worker.inference import numbers_classifier, read_pages
from worker.inference.classify import Classifier
from worker.inference.mlp import Mlp
from worker.inference.numbers_classifier import NumbersClassifier

#: Rows of the page, digits of a row and of a number, pixels of a digit's place, and its enlargement.
ROWS, ROW, NUMBER, PLACE, TIMES = 10, 10, 5, 60, 2
#: What is timed, by the name of its function. The reading as one digit and the model overlap.
STAGES = {
    "__call__": "as one digit", "decode_page": "decode", "find_grid": "tables", "lay_out": "layout",
    "page_digits": "decisions", "read": "model",
}  # fmt: skip


def page() -> bytes:
    """Return the page as a PNG."""
    rng = np.random.default_rng(0)
    paper = rng.normal(225, 4, ((ROWS + 1) * PLACE * 3 // 2, (ROW + 3) * PLACE))
    for at, digit in enumerate(recorded()[0][rng.permutation(ROWS * ROW)]):
        row, column = divmod(at, ROW)
        top, left = PLACE // 2 + row * PLACE * 3 // 2, PLACE // 2 + (column + 2 * (column // NUMBER)) * PLACE
        ink = np.kron(digit.astype(np.float64), np.ones((TIMES, TIMES))) / 255
        part = paper[top : top + len(ink), left : left + len(ink)]
        part -= ink * 170
    out = BytesIO()
    Image.fromarray(np.clip(paper, 0, 255).astype(np.uint8)).save(out, "PNG")
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
    classifier, picture = NumbersClassifier(Classifier(model, 10**8)), page()
    classifier([picture])  # the first call loads OpenCV
    spent: dict[str, float] = defaultdict(float)
    for owner, name in (
        (Classifier, "__call__"), (numbers_classifier, "decode_page"), (read_pages, "find_grid"),
        (read_pages, "lay_out"), (read_pages, "page_digits"), (model, "read"),
    ):  # fmt: skip
        setattr(owner, name, timed(spent, name, getattr(owner, name)))
    costs = []
    for _ in range(rounds):
        start = time.process_time()
        [outcome] = classifier([picture]).results
        costs.append(1000 * (time.process_time() - start))
    numbers = outcome.page.numbers if isinstance(outcome, Outcome) and outcome.page else ()
    decisions = [digit.decision for number in numbers for digit in number.digits]
    cost = statistics.median(costs)
    print(f"{len(decisions)} digits, {decisions.count('accept')} accepted; {1000 / cost:.1f} pages a second of CPU")
    print(f"{'a page':12} {cost:6.1f} ms, of these:")
    for name, ms in sorted(spent.items(), key=lambda one: -one[1]):
        print(f"{STAGES[name]:12} {ms / rounds:6.1f}")


if __name__ == "__main__":
    main()
