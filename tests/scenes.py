"""Pictures as people send them, drawn by chance: digits in all sizes, on all papers, with what stands around them.

A number makes the same picture every time.
"""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any
from zlib import crc32

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from tests.drawings import STROKES
from worker.image.arrays import Mask
from worker.image.model_input import ModelInput
from worker.image.normalise import normalise, normalise_uneven
from worker.image.segment import find_digit

Grey = np.ndarray
#: Strokes of all digits that these pictures show; a 0 has the corners of a circle.
FORMS = {
    **STROKES,
    0: [[(0.5, 0), (0.8, 0.15), (0.9, 0.5), (0.8, 0.85), (0.5, 1), (0.2, 0.85), (0.1, 0.5), (0.2, 0.15), (0.5, 0)]],
    2: [[(0.1, 0.2), (0.5, 0), (0.9, 0.25), (0.1, 1), (0.9, 1)]],
}


def ink_of(chance: Random, width: int, height: int) -> Image.Image:
    """One digit or several, "L", 255 where there is ink."""
    image = Image.new("L", (2 * width, 2 * height))
    draw = ImageDraw.Draw(image)
    shorter = 2 * min(width, height)
    size = shorter * chance.choice([0.05, 0.12, 0.25, 0.45, 0.6, 0.8, 0.95])
    pen = size * chance.choice([0.01, 0.03, 0.07, 0.1, 0.16, 0.25])
    left, top = chance.uniform(0, max(0, 2 * width - size)), chance.uniform(0, max(0, 2 * height - size))
    step = chance.choice([(1.15, 0), (0.8, 0), (1.5, 0.1), (0.5, 0), (0, 1.1), (0, 1.02), (0, 1.3), (0.9, 0.5)])
    slim = chance.choice([1, 1, 0.6, 0.35])
    for number in range(chance.choice([1, 1, 1, 2, 2, 3])):
        grown = size * (chance.choice([1, 1, 0.75, 0.5, 0.3]) if number else 1)
        x0, y0 = left + number * step[0] * size, top + number * step[1] * size
        for stroke in FORMS[chance.choice(list(FORMS))]:
            points = [(x0 + slim * x * grown, y0 + y * grown) for x, y in stroke]
            draw.line(points, fill=255, width=max(1, round(pen)), joint="curve")
    for _ in range(chance.choice([0, 0, 0, 1, 2])):  # a break in the strokes
        at = chance.uniform(top, top + size)
        draw.rectangle((0, at, 2 * width, at + size * chance.choice([0.02, 0.05, 0.1])), fill=0)
    if chance.random() < 0.2:
        at = chance.uniform(left, left + size)
        draw.rectangle((at, 0, at + size * chance.choice([0.02, 0.05, 0.1]), 2 * height), fill=0)
    return image.reduce(2)


def printed(chance: Random, width: int, height: int) -> Image.Image:
    """Draw the surroundings of a digit: ruling, frames, lines along the sides, specks, flakes and dashes; "L"."""
    image = Image.new("L", (width, height))
    draw, shorter = ImageDraw.Draw(image), min(width, height)
    tone, thick = (
        chance.choice([90, 150, 220, 255]),
        chance.choice([1, 2, 3, max(1, shorter // 25), max(1, shorter // 8)]),
    )
    what = chance.choice(
        ["nothing", "nothing", "ruling", "squares", "frame", "sides", "specks", "dashes", "corner", "box"]
    )
    if what in ("ruling", "squares"):
        lean, gap = chance.choice([0, 0, 0.03, 0.07, -0.05, 0.095, 0.14]), max(6, shorter // chance.choice([3, 6, 9]))
        part = chance.choice([1, 1, 0.9, 0.7])
        for at in range(chance.randrange(gap), height + gap, gap):
            draw.line((0, at, part * width, at + lean * part * width), fill=tone, width=thick)
        for at in range(chance.randrange(gap), width + gap, gap) if what == "squares" else ():
            draw.line((at, 0, at - lean * height, height), fill=tone, width=thick)
    elif what == "frame":
        inset = shorter * chance.choice([0, 0, 0.04, 0.1, 0.2])
        draw.rectangle((inset, inset, width - 1 - inset, height - 1 - inset), outline=tone, width=thick)
    elif what == "sides":
        for _ in range(chance.choice([1, 1, 2, 3])):
            inset, lean = (
                shorter * chance.choice([0, 0.02, 0.08, 0.14, 0.2]),
                shorter * chance.choice([0, 0.02, 0.06, 0.15]),
            )
            start, end = height * chance.choice([0, 0, 0.1, 0.4]), height * chance.choice([1, 1, 0.9, 0.6])
            draw.line((inset, start, inset + lean, end), fill=tone, width=thick)
            image = image.transpose(chance.choice(list(Image.Transpose)[:5])).resize((width, height))
            draw = ImageDraw.Draw(image)
    elif what == "corner":
        reach = shorter * chance.choice([0.1, 0.2, 0.3, 0.45])
        draw.line((0, reach, width, reach), fill=tone, width=thick)
        draw.line((reach, 0, reach, height), fill=tone, width=thick)
    elif what in ("specks", "dashes", "box"):
        for _ in range(chance.choice([1, 2, 5, 20])):
            x, y = chance.uniform(0, width), chance.uniform(0, height)
            across = shorter * chance.choice([0.01, 0.03, 0.06, 0.15, 0.3])
            down = (
                across
                * {"specks": 1, "dashes": chance.choice([0.15, 0.25, 0.4]), "box": chance.choice([1, 2, 3])}[what]
            )
            draw.rectangle((x, y, x + across, y + down), fill=tone)
    return image


def levels(chance: Random, width: int, height: int, ink: Grey) -> Grey:
    """Grey levels of the ink, in [0, 1], on some paper in some light."""
    paper, depth = chance.choice([255, 235, 200, 150, 90]), chance.choice([0.03, 0.06, 0.15, 0.3, 0.7, 0.95, 1])
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    slope, edge = chance.choice([0, 0, 0, 0.1, 0.3]), chance.choice([0, 0, 0.3, 0.6, 0.8])
    lean, sharp = chance.uniform(-2, 2), chance.choice([2, 8, 40])
    light = paper * (1 - slope * (x + y) / 2) * (1 - edge / (1 + np.exp(-sharp * (x + lean * y - 0.3))))
    grain = np.random.default_rng(chance.randrange(10**6))
    found = light * (1 - depth * ink) + grain.normal(0, chance.choice([0, 0, 1, 4, 15, 40]), ink.shape)
    salt = chance.choice([0, 0, 0, 0.005, 0.015, 0.05])
    found = np.where(grain.random(ink.shape) < salt, 255 * (grain.random(ink.shape) < 0.5), found)
    return np.rint(found).clip(0, 255).astype(np.uint8)


def scene(number: int) -> Grey:
    """A picture, uint8 [H, W], that most often shows a digit."""
    chance = Random(number)
    width, height = chance.choice(
        [(28, 28), (16, 16), (20, 26), (40, 56), (64, 48), (64, 64), (72, 72), (100, 80), (50, 130), (180, 170),
         (280, 60)]
    )  # fmt: skip
    digit, print_ = ink_of(chance, width, height), printed(chance, width, height)
    soft = chance.choice([0, 0, 0.7, 2])
    both = np.maximum(np.asarray(digit, float), np.asarray(print_, float)) / 255
    if soft:
        both = np.asarray(Image.fromarray(np.uint8(255 * both)).filter(ImageFilter.GaussianBlur(soft)), float) / 255
    grey = levels(chance, width, height, both)
    if chance.random() < 0.15:  # a frame of the page that it was shown on
        ring, level = chance.choice([1, 3, max(1, min(width, height) // 8)]), chance.choice([0, 128, 255])
        grey = grey.copy()
        grey[:ring] = grey[-ring:] = grey[:, :ring] = grey[:, -ring:] = level
    if chance.random() < 0.3:
        rows, columns = np.flatnonzero(both.max(axis=1) > 0.5), np.flatnonzero(both.max(axis=0) > 0.5)
        if rows.size and min(np.ptp(rows), np.ptp(columns)) > 8:  # cut tightly
            grey = grey[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return np.ascontiguousarray(255 - grey if chance.random() < 0.3 else grey)


def near_mnist(number: int) -> Grey:
    """A picture of 28 x 28 that is, or just is not, like those of MNIST."""
    chance = Random(number)
    image = Image.new("L", (8 * 28, 8 * 28))
    size, brightest = 8 * chance.choice([17, 18, 18.5, 19, 19.4, 20]), chance.choice([255, 255, 210, 201, 199, 150])
    left, top = (8 * 14.5 - size / 2 + 8 * chance.uniform(-1.5, 1.5) for _ in "xy")
    for stroke in FORMS[chance.choice(list(FORMS))]:
        points = [(left + x * size, top + y * size) for x, y in stroke]
        ImageDraw.Draw(image).line(points, fill=brightest, width=chance.choice([10, 16, 24, 40]), joint="curve")
    grey = np.asarray(image.reduce(8)).copy()
    grey[:, : chance.choice([0, 0, 0, 9])] |= chance.choice([7, 9, 12])
    return 255 - grey if chance.random() < 0.3 else grey


def blots(number: int) -> Mask:
    """A mask with a large component, and others beside, around, in and near it."""
    chance = Random(number)
    height, width = chance.choice([(20, 20), (26, 40), (48, 48), (64, 64), (64, 50), (64, 64), (30, 64), (130, 110)])
    image = Image.new("1", (width, height))
    draw, shorter = ImageDraw.Draw(image), min(width, height)
    main = shorter * chance.uniform(0.25, 0.7)
    x0, y0 = chance.uniform(0, width - main / 2), chance.uniform(0, height - main)
    for at in range(chance.choice([1, 2, 2, 3, 3, 4, 6])):
        down = main * (chance.uniform(0.05, 1.1) if at else 1)
        across = down * chance.choice([0.15, 0.4, 0.7, 1, 1.3, 1.8, 4, 5])
        left = x0 + main * chance.choice([0, 0.3, chance.uniform(-1.2, 1.2)]) if at else x0
        top = y0 + main * chance.choice([0, 1.05, 1.2, -0.2, 0.4, chance.uniform(-1, 1.2)]) if at else y0
        if chance.random() < 0.15:  # along a side of the picture
            left, top = chance.choice([(0, top), (left, 0), (width - across - 1, top), (left, height - down - 1)])
        box, thick = (left, top, left + across, top + down), chance.choice([1, 1, 2, 3, 5])
        shape = chance.choice(["ring", "ring", "box", "round", "slash", "corner"])
        if shape == "ring":
            draw.rectangle(box, outline=1, width=thick)
        elif shape == "round":
            draw.ellipse(box, outline=1, width=thick)
        elif shape == "box":
            draw.rectangle(box, fill=1)
        else:
            draw.line((box[0], box[3], box[2], box[1]), fill=1, width=thick)
            draw.line((*box[:2], box[0], box[3]) if shape == "corner" else (*box[:2], *box[:2]), fill=1, width=thick)
    return np.asarray(image)


#: What is recorded of the pictures that were chosen, so that each constant of the preprocessing has one that needs it,
#: and of masks.
RECORD = Path(__file__).with_name("scenes.json")
KINDS = {"scene": scene, "near_mnist": near_mnist}
MASKS = 600


def described(found: ModelInput) -> dict[str, Any]:
    """Return the facts to record of a model input.

    They are the means of 2 x 2 pixels from 0 to 255, in hexadecimal, the warnings, and the other fields.
    """
    means = np.rint(found.pixels.reshape(14, 2, 14, 2).mean(axis=(1, 3)) * 255).astype(np.uint8)
    facts = {"warnings": list(found.warnings), "mnist_like": found.mnist_like, "clear": found.clear}
    return {"pixels": means.tobytes().hex(), **facts, "cut": round(found.cut, 2)}


def selected(mask: Mask) -> list[int]:
    """Return a checksum of the digit found in a mask, and 1 if there are others: without and with ruling."""
    found = []
    for lined in (False, True):
        kept, several = find_digit(mask, lined)
        found += [crc32(np.packbits(kept).tobytes()), int(several)]
    return found


def record(chosen: list[tuple[str, int]]) -> None:
    """Record what these pictures and the masks give."""
    pictures = []
    for kind, number in chosen:
        grey = KINDS[kind](number)
        pictures.append([kind, number, described(normalise(grey)), described(normalise_uneven(grey))])
    masks = [selected(blots(number)) for number in range(MASKS)]
    lines = [",\n".join(map(json.dumps, rows)) for rows in (pictures, masks)]
    RECORD.write_text(f'{{"pictures": [\n{lines[0]}\n], "masks": [\n{lines[1]}\n]}}\n')


if __name__ == "__main__":  # the preprocessing has changed on purpose, and has another name: record it anew
    record([(kind, number) for kind, number, *_ in json.loads(RECORD.read_text())["pictures"]])
