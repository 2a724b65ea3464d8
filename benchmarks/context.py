"""Fits the weights of `worker.page.context`, and measures them on sources of pictures that were left out.

    python -m benchmarks.context --data var/mnist --numbers DIR [--pages 30] [--fonts DIR] [--model DIR] [--seed 0]

DIR has a manifest.jsonl as for `digitq evaluate --numbers`, with the `source` of each picture. To these come composed
pages, and pages of words without any digit in the fonts of this machine and of `--fonts`, which may look handwritten.
Prints a table by source, each with weights fitted to all others, and then the weights: paste them into
`worker/page/context_weights.py`, after a change of the model or of what is measured.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from benchmarks.rows import composed as handwritten
from shared.settings import SHIPPED_MODEL, Settings
from worker.decoding.decode import decode_page
from worker.image.arrays import Floats64, Grey, Mask
from worker.inference.mlp import Mlp, Reading
from worker.inference.page_digits import DEFAULT_THRESHOLDS, chosen
from worker.inference.second_look import looked_again
from worker.page.context import FEATURES, features
from worker.page.grid.find import find_grid
from worker.page.layout import Layout, lay_out
from worker.training.data.idx import load_mnist
from worker.training.drawing.camera import photographed
from worker.training.drawing.letters import font_files
from worker.training.evaluation.page_scores import NEGATIVE, matches
from worker.training.pages.compose import Page, compose
from worker.training.pages.writing import MOST_ROWS

#: Kinds of composed pages; sudokus are read cell by cell.
KINDS = ("row", "rows", "equations", "mixed", "letters", "form", "table")
#: Kinds of pages of handwritten numbers, with the most rows of a page.
WRITTEN = {"written row": 1, "written rows": MOST_ROWS}
#: No source weighs more than this many digits, pictures PICTURES times as much as composed pages, and what has no digit
#: NONE times as much as what has: with 1, half as many digits again are seen in composed pages of letters.
MOST, PICTURES, NONE = 400, 2.0, 6.0
#: The penalty of the squares of the weights.
RIDGE = 0.1
#: So limited, the log odds are too small. SHARPER of them have a smaller log loss on sources left out; from 1.2 on more
#: of the digits that are accepted there are wrong.
SHARPER = 1.1


class Digits(NamedTuple):
    """The digits that were chosen on the pages of one source, and which of them are right."""

    source: str
    composed: bool
    measured: Floats64  # [n, FEATURES]
    right: Mask  # [n]
    negative: bool


def pictures(folder: Path, model: Mlp) -> Iterator[Digits]:
    """Yield the digits on each picture of a manifest that is no sudoku."""
    most = Settings.from_env().max_pixels
    for line in (folder / "manifest.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        grey = decode_page((folder / row["path"]).read_bytes(), max_pixels=most).grey
        grid = find_grid(grey)
        if grid is None or not grid.is_sudoku:
            measured, read, boxes, sure = _read(grey, model)
            right = np.zeros(len(boxes), np.bool_)
            right[sure] = matches("".join(row["lines"]), "".join(map(str, read[sure])))
            yield Digits(row["source"], False, measured, right, row["category"] == NEGATIVE)


def composed(data: Path, each: int, model: Mlp, rng: np.random.Generator) -> Iterator[Digits]:
    """Yield the digits on composed pages of each kind."""
    mnist = load_mnist(data)
    pages = (
        (kind, compose(mnist.test_images, mnist.test_labels, rng, kind=kind)) for kind in KINDS for _ in range(each)
    )
    seed = int(rng.integers(2**32))
    written = ((kind, page) for kind, rows in WRITTEN.items() for page in handwritten(data, rows, each, seed))
    for kind, page in chain(pages, written):
        measured, read, boxes, _ = _read(page.picture, model)
        right = np.array([_text(page, box) == str(one) for box, one in zip(boxes, read, strict=True)], np.bool_)
        yield Digits(kind, True, measured, right, not any(page.lines))


def words(fonts: Path | None, each: int, model: Mlp, rng: np.random.Generator) -> Iterator[Digits]:
    """Yield what is taken for digits on photographed pages of words, in fonts of the machine and of a folder."""
    own = sorted(path for path in fonts.rglob("*") if path.suffix in (".ttf", ".otf", ".woff")) if fonts else []
    text = re.findall(r"[A-Za-z]{2,}", (Path(__file__).parent / "README.md").read_text("utf-8"))
    for name, files in (("printed words", font_files()), ("handwritten words", own)):
        for _ in range(each if files else 0):
            font = ImageFont.truetype(str(rng.choice(np.array(files, str))), int(rng.uniform(14, 50)))
            lines = [" ".join(rng.choice(text, int(rng.integers(1, 8)))) for _ in range(int(rng.integers(1, 7)))]
            drawn = ImageDraw.Draw(Image.new("L", (1, 1))).multiline_textbbox((0, 0), "\n".join(lines), font=font)
            image = Image.new("L", (int(drawn[2] + 2 * font.size), int(drawn[3] + 2 * font.size)))
            ImageDraw.Draw(image).multiline_text((font.size, font.size), "\n".join(lines), font=font, fill=230)
            measured, _, boxes, _ = _read(photographed(np.asarray(image), rng, font.size), model)
            yield Digits(name, True, measured, np.zeros(len(boxes), np.bool_), True)


def _read(grey: Grey, model: Mlp) -> tuple[Floats64, NDArray[np.intp], list[tuple[int, ...]], Mask]:
    """Return what is measured of the digits of a page, them, their boxes, and whether the model is for them."""
    layout = lay_out(grey)
    rows = chosen(layout, _reading(layout, model))
    seen = [one for row in rows for one in row]
    boxes = [layout.on_page(one.candidate.box, grey.shape) for one in seen]
    sure = np.array([one.digitness > 0.5 for one in seen], np.bool_)
    return features(layout, rows), np.array([one.digit for one in seen], np.intp), list(boxes), sure


def _reading(layout: Layout, model: Mlp) -> Reading:
    """Read the candidates of a page as it is served: the doubtful ones again."""
    steps = looked_again(layout, model.read(layout.pixels))
    try:
        steps.send(model.read(next(steps)))
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    raise AssertionError("a page is looked at twice at most")


def _text(page: Page, box: tuple[int, ...]) -> str:
    """Return the mark of a composed page that has the most ink in a box."""
    left, top, width, height = box
    inside = page.layers[:, top : top + height, left : left + width]
    counts = np.bincount(inside.ravel(), minlength=len(page.marks) + 1)[1:]
    return page.marks[int(counts.argmax())].text if counts.any() else ""


def fit(pages: list[Digits]) -> Floats64:
    """Return the weights of a logistic regression, by Newton's method."""
    counts = Counter[tuple[str, bool]]()
    for one in pages:
        counts[one.source, one.negative] += len(one.right)
    measured = np.concatenate([one.measured for one in pages])
    right = np.concatenate([one.right for one in pages]).astype(np.float64)
    trust = np.concatenate(
        [
            np.full(len(one.right), min(1.0, MOST / max(1, counts[one.source, one.negative])))
            * (1.0 if one.composed else PICTURES)
            * (NONE if one.negative else 1.0)
            for one in pages
        ]
    )
    weights = np.zeros(measured.shape[1])
    for _ in range(30):
        chance = 1 / (1 + np.exp(-measured @ weights))
        slope = measured.T @ (trust * (right - chance)) - RIDGE * weights
        curve = (measured * (trust * chance * (1 - chance))[:, None]).T @ measured + RIDGE * np.eye(len(weights))
        weights = weights + np.linalg.solve(curve, slope)
    return SHARPER * weights


def row(name: str, pages: list[Digits], weights: Floats64) -> str:
    """Return a row of the table: right digits that are kept, and false ones a page, by these weights."""
    chance = [1 / (1 + np.exp(-one.measured @ weights)) for one in pages]
    right = np.concatenate([one.right for one in pages])
    kept = np.concatenate(chance) >= DEFAULT_THRESHOLDS["page_review"]
    accepted = np.concatenate(chance) >= DEFAULT_THRESHOLDS["page_accept"]
    shares = [f"{np.mean(some):7.1%}" if some.size else "      -" for some in (kept[right], right[accepted])]
    false = int(np.count_nonzero(kept & ~right)) / len(pages)
    told = f"right kept {shares[0]}, false a page {false:6.2f}, accepted right {shares[1]}"
    return f"{name[:44]:44} {len(pages):4} pages, {told}"


@click.command()
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Directory of the four MNIST files.")
@click.option("--numbers", type=click.Path(path_type=Path), required=True, help="Directory of the manifest.")
@click.option("--pages", "each", default=30, show_default=True, help="Composed pages of each kind.")
@click.option("--fonts", type=click.Path(path_type=Path), help="Directory of fonts that look handwritten.")
@click.option("--model", "path", type=click.Path(path_type=Path), default=SHIPPED_MODEL)
@click.option("--seed", default=0, show_default=True)
def main(data: Path, numbers: Path, each: int, fonts: Path | None, path: Path, seed: int) -> None:
    """Print the table and the weights."""
    rng, model = np.random.default_rng(seed), Mlp.load(path)
    real = list(pictures(numbers, model))
    made = [*composed(data, each, model, rng), *words(fonts, each, model, rng)]
    by_source: dict[str, list[Digits]] = defaultdict(list)
    for one in real:
        by_source[f"{one.source}{' (no digits)' * one.negative}"].append(one)
    for name, pages in sorted(by_source.items()):
        click.echo(row(name, pages, fit([one for one in real + made if one.source != pages[0].source])))
    weights = fit(real + made)
    for kind in dict.fromkeys(one.source for one in made):
        click.echo(row(f"composed: {kind} (fitted)", [one for one in made if one.source == kind], weights))
    click.echo("\n".join(f'    "{name}": {weight:.2f},' for name, weight in zip(FEATURES, weights, strict=True)))


if __name__ == "__main__":
    main()
