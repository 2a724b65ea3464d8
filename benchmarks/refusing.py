"""Measures how often non-digits and several digits are accepted as one digit, and a digit as another.

    python -m benchmarks.refusing --data var/mnist [--seed 0] [--each 40] [--none DIR ...] [--model DIR]

Each kind is drawn by the seed: two seeds show the variation. `--none` reads the pictures of a directory, none of which
may be accepted. MNIST's digits come from the test images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import click
import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from shared.prediction import Outcome
from shared.settings import SHIPPED_MODEL
from worker.inference.classify import Classifier
from worker.inference.mlp import Mlp
from worker.training.data.idx import Images, load_mnist
from worker.training.drawing.letters import font_files

#: A picture and the digit as which it may be accepted, -1 for none.
Case = tuple[Image.Image, int]
#: Segments of each digit of a display, and their positions in a box of 1 x 2.
DISPLAY = ("abcdef", "bc", "abged", "abgcd", "fgbc", "afgcd", "afgedc", "abc", "abcdefg", "abcdfg")
BARS = {"a": (0, 0, 1, 0), "g": (0, 1, 1, 1), "d": (0, 2, 1, 2), "f": (0, 0, 0, 1), "e": (0, 1, 0, 2),
        "b": (1, 0, 1, 1), "c": (1, 1, 1, 2)}  # fmt: skip
GAPS = (0.05, 0.1, 0.2, 0.35, 0.5, 0.8, 1.2, 1.8, 2.6, 4.0)


def several(digits: Images, rng: np.random.Generator) -> Case:
    """Draws two to eight digits in a row, column or diagonal, at any distance, of one or several heights."""
    gap, right, down = rng.choice(GAPS), *[(1, 0), (0, 1), (1, 1), (1, -1)][rng.integers(4)]
    height, spread = rng.uniform(24, 90), rng.choice([0.0, 0.15])
    x = y = 0.0
    placed = []
    for index in rng.integers(0, len(digits), rng.integers(2, 9)):
        ink = Image.fromarray(digits[index])
        ink = ink.crop(ink.point(lambda level: 255 * (level > 60)).getbbox())
        high = height * rng.uniform(1 - spread, 1 + spread)
        ink = ink.resize((max(4, round(ink.width * high / ink.height)), round(high)), Image.Resampling.BICUBIC)
        placed.append((round(x), round(y) - (round(high) if down < 0 else 0), ink))
        x += right * (ink.width + gap * height)
        y += down * (high + gap * height)
    left, top = min(one[0] for one in placed), min(one[1] for one in placed)
    margin = round(height * rng.uniform(0.3, 1))
    size = [max(one[axis] + one[2].size[axis] for one in placed) - (left, top)[axis] + 2 * margin for axis in (0, 1)]
    sheet = Image.new("L", (size[0], size[1]))
    for x0, y0, ink in placed:
        sheet.paste(255, (x0 - left + margin, y0 - top + margin), ink)
    return on_paper(sheet, rng), -1


def empty_cell(_: Images, rng: np.random.Generator) -> Case:
    """Draws an empty cell cut from a form: lines along some sides, blurred and slightly slanted."""
    side = int(rng.integers(30, 160))
    lines = Image.new("L", (side * 2, side * 2))
    draw = ImageDraw.Draw(lines)
    for corner in np.flatnonzero(rng.random(4) < rng.choice([0.3, 0.6, 1.0])):
        at, lean = 2 * side * rng.uniform(0, 0.08), rng.normal(0, 0.01)
        wide = max(2, int(2 * side * rng.uniform(0.02, 0.1)))
        at = at if corner % 2 else 2 * side - at
        ends = (at - lean * side, -9, at + lean * side, 2 * side + 9)
        draw.line(ends if corner < 2 else (*ends[1::-1], *ends[:1:-1]), int(rng.integers(90, 256)), wide)
    return on_paper(lines.reduce(2).filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.03 * side))), rng), -1


def display(_: Images, rng: np.random.Generator) -> Case:
    """Draws a seven-segment digit of random thickness, slant and gaps."""
    digit, size = int(rng.integers(10)), rng.uniform(30, 120)
    thick, gap, lean = size * rng.uniform(0.08, 0.36), rng.uniform(0, 0.9), rng.uniform(0, 0.3)
    sheet = Image.new("L", (int(size * 2.2), int(size * 3)))
    for bar in DISPLAY[digit]:
        ends = np.array(BARS[bar], float).reshape(2, 2) * size
        along = (ends[1] - ends[0]) / size
        ends += np.array([along, -along]) * gap * thick
        ends += (size * 0.5, size * 0.5)
        ends[:, 0] += lean * (size * 2.5 - ends[:, 1]) / 2.5
        ImageDraw.Draw(sheet).line([tuple(end) for end in ends.tolist()], 255, max(1, round(thick)))
    return on_paper(sheet, rng), digit


def printed(_: Images, rng: np.random.Generator) -> Case:
    """Draws a printed digit, with or without a frame."""
    digit = int(rng.integers(10))
    return on_paper(_set(str(digit), rng, framed=rng.random() < 0.5), rng), digit


def slash(_: Images, rng: np.random.Generator) -> Case:
    """Draws a printed slash or backslash."""
    return on_paper(_set(str(rng.choice(["/", "\\"])), rng), rng), -1


def foreign(_: Images, rng: np.random.Generator) -> Case:
    """Draws an Arabic-Indic digit: a 5 like a 0, a 6 like a 7."""
    return on_paper(_set(str(rng.choice(list("٢٣٤٥٦٧٨"))), rng), rng), -1


KINDS: dict[str, Callable[[Images, np.random.Generator], Case]] = {
    "several digits": several, "empty cells": empty_cell, "displays": display, "printed": printed, "slashes": slash,
    "Arabic digits": foreign,
}  # fmt: skip


def on_paper(ink: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Turn ink (255 on 0) into a picture: polarity, contrast, blur, grain and uneven light are random."""
    soft = np.asarray(ink.filter(ImageFilter.GaussianBlur(rng.uniform(0, 1))), np.float32) / 255
    paper, depth = rng.uniform(150, 250), rng.uniform(0.35, 0.95)
    light = 1 + rng.uniform(0, 0.12) * np.linspace(-1, 1, soft.shape[1]) * rng.choice([-1, 1])
    levels = paper * light * (1 - depth * soft) + rng.normal(0, rng.uniform(0, 5), soft.shape)
    levels = 255 - levels if rng.random() < 0.2 else levels
    return Image.fromarray(np.rint(levels).clip(0, 255).astype(np.uint8))


def _set(text: str, rng: np.random.Generator, framed: bool = False) -> Image.Image:
    fonts = [path for path in font_files() if all(ImageFont.truetype(path, 20).getmask(c).getbbox() for c in text)]
    if any(ord(c) > 255 for c in text):  # other fonts draw boxes instead
        fonts = [path for path in fonts if "DejaVuSans" in path.name and "Serif" not in path.name]
    size = int(rng.integers(18, 110))
    sheet = Image.new("L", (size * 2, size * 2))
    draw = ImageDraw.Draw(sheet)
    draw.text((size, size), text, 255, ImageFont.truetype(fonts[int(rng.integers(len(fonts)))], size), "mm")
    if framed:
        draw.rectangle((3, 3, size * 2 - 4, size * 2 - 4), outline=200, width=int(rng.integers(1, 4)))
    return sheet


def read(classifier: Classifier, pictures: list[Image.Image]) -> Iterator[Outcome | Exception]:
    """Return the outcomes in order."""
    files = [_png(picture) for picture in pictures]
    found: list[Outcome | Exception] = []
    while len(found) < len(files):  # a slow batch is released before its end
        found += classifier(files[len(found) : len(found) + 64]).results
    return iter(found)


def _png(picture: Image.Image) -> bytes:
    out = BytesIO()
    picture.save(out, "PNG", compress_level=1)
    return out.getvalue()


@click.command()
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Directory of the four MNIST files.")
@click.option("--model", type=click.Path(path_type=Path), default=SHIPPED_MODEL, show_default=True)
@click.option("--none", type=click.Path(path_type=Path), multiple=True, help="Pictures that are not one digit.")
@click.option("--seed", default=0, show_default=True)
@click.option("--each", default=300, show_default=True, help="Pictures of each kind.")
def main(data: Path, model: Path, none: tuple[Path, ...], seed: int, each: int) -> None:
    """Print the number of wrongly accepted pictures of each kind."""
    classifier, digits = Classifier(Mlp.load(model), 10**8), load_mnist(data).test_images
    for name, draw in KINDS.items():
        rng = np.random.default_rng([seed, *name.encode()])
        cases = [draw(digits, rng) for _ in range(each)]
        _line(name, [label for _, label in cases], list(read(classifier, [picture for picture, _ in cases])))
    for folder in none:
        pictures = [Image.open(path) for path in sorted(folder.rglob("*")) if path.suffix in (".png", ".jpg")]
        _line(folder.name, [-1] * len(pictures), list(read(classifier, pictures)))


def _line(name: str, labels: list[int], found: list[Outcome | Exception]) -> None:
    outcomes = [(label, one) for label, one in zip(labels, found, strict=True) if isinstance(one, Outcome)]
    wrong = sum(one.decision == "accept" and one.digit != label for label, one in outcomes)
    accepted = sum(one.decision == "accept" for _, one in outcomes)
    rejected = sum(one.decision == "reject" for _, one in outcomes)
    click.echo(
        f"{name:15} {len(labels):5} read, accepted {accepted:5}, wrong of these {wrong:4}, rejected {rejected:5}"
    )


if __name__ == "__main__":
    main()
