"""Draws non-digits, to train a model to reject them and to measure whether it does.

All kinds are pictures like uploads, grey levels uint8 [h, w], preprocessed like all others (`worker.image.preprocess`).
Nothing is drawn that may be a digit: no ring, no lone upright line, none of `letters.LOOKALIKES`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import TypeVar

import cv2
import numpy as np

from worker.training.data.idx import Images
from worker.training.drawing import scenes
from worker.training.drawing.camera import Picture, penned, photographed
from worker.training.drawing.letters import (
    DRAWN,
    LETTERS,
    LOOKALIKES,
    NUMERALS,
    SIGNS,
    SIZE,
    WRITTEN,
    Font,
    fonts,
    print_,
    prints,
    write,
)
from worker.training.drawing.shapes import bubble, scribble, shape

T = TypeVar("T")
#: Draws grey levels or ink, uint8 [h, w], from a random generator and some digits uint8 [n, 28, 28] as in MNIST.
Kind = Callable[[Images, np.random.Generator], Picture]

#: Letters that words may have: those that look like digits too, between others.
_SPELLING = LETTERS + "".join(sorted(c for c in LOOKALIKES if c.isalpha()))


def draw(kind: str, images: Images, rng: np.random.Generator) -> Picture:
    """Draw a training picture of the kind; `images`, uint8 [n, 28, 28], are the digits used for several digits."""
    return KINDS[kind](images, rng)


def _letter(_: Images, rng: np.random.Generator, *, held_out: bool) -> Picture:
    """One letter, written or printed, as shaky as a hand."""
    faces = fonts(held_out)
    if rng.random() < 0.5 or not faces:
        return bent(write(WRITTEN[_one_of(tuple(WRITTEN), rng)], rng), rng)
    return bent(_slanted(print_(_one_of(LETTERS, rng), _one_of(faces, rng)), rng), rng)


def _word(_: Images, rng: np.random.Generator, *, held_out: bool) -> Picture:
    """Two to seven letters of which the first cannot be a digit."""
    faces, length = fonts(held_out), int(rng.integers(2, 8))
    if rng.random() < 0.5 or not faces:
        parts = [write(WRITTEN[_one_of(tuple(WRITTEN), rng)], rng) for _ in range(length)]
        return bent(_row([_scaled(part, SIZE) for part in parts], rng.uniform(0.02, 0.15), rng), rng)
    rest = "".join(_one_of(_SPELLING, rng) for _ in range(length - 1))
    return bent(_slanted(print_(_one_of(LETTERS, rng) + rest, _one_of(faces, rng)), rng), rng)


def _symbol(_: Images, rng: np.random.Generator, *, held_out: bool) -> Picture:
    """A sign: of punctuation, of arithmetic, of money, or a little drawing."""
    faces = fonts(held_out)
    if rng.random() < 0.6 or not faces:
        return bent(write(DRAWN[_one_of(tuple(DRAWN), rng)], rng), rng)
    return bent(_slanted(print_(_one_of(SIGNS, rng), _one_of(faces, rng)), rng), rng)


def _numeral(_: Images, rng: np.random.Generator, *, held_out: bool) -> Picture:
    """A digit of another script, in a font that has it; one of the symbols if none does."""
    text = _one_of("٥٦" if rng.random() < 0.25 else NUMERALS, rng)
    faces = _faces(text, held_out)
    return bent(_slanted(print_(text, _one_of(faces, rng)), rng), rng) if faces else _symbol(_, rng, held_out=held_out)


@cache
def _faces(text: str, held_out: bool) -> list[Font]:
    """The fonts that have the character."""
    return [font for font in fonts(held_out) if prints(text, font)]


def _several(images: Images, rng: np.random.Generator) -> Picture:
    """Two to five digits of about one size in a row, or in two, so near that serving takes them for one thing."""
    rows = 2 if rng.random() < 0.2 else 1
    parts = []
    for count in rng.integers(1 if rows == 2 else 2, 4 if rows == 2 else 6, rows):
        cuts = [_cut(images[index]) for index in rng.integers(0, len(images), count)]
        parts.append(_row([_scaled(cut, int(rng.integers(34, 44))) for cut in cuts], rng.uniform(-0.1, 0.2), rng))
    if rows == 1:
        return parts[0]
    width = max(part.shape[1] for part in parts)
    framed = [np.pad(part, ((0, 0), (0, width - part.shape[1]))) for part in parts]
    return np.concatenate([framed[0], np.zeros((int(rng.integers(2, 8)), width), np.uint8), framed[1]])


def _row(parts: list[Picture], gap: float, rng: np.random.Generator) -> Picture:
    """Pictures of ink side by side, apart by a part of their height; they touch or overlap if it is negative."""
    height = max(len(part) for part in parts) + 4
    row = np.zeros((height, sum(part.shape[1] for part in parts) + len(parts) * height), np.uint8)
    x = end = 0
    for part in parts:
        top = int(rng.integers(0, height - len(part) + 1))
        place = row[top : top + len(part), x : x + part.shape[1]]
        np.maximum(place, part, out=place)
        end = x + part.shape[1]
        x = max(x + 2, end + round(gap * height))
    return row[:, :end]


def bent(ink: Picture, rng: np.random.Generator) -> Picture:
    """Ink uint8 [h, w] -> the same with a margin, bent as a hand would: elastic distortion as in `distort`."""
    framed = np.pad(ink, 6)
    height, width = framed.shape
    amount = np.float32(rng.uniform(0, 0.1) * min(height, SIZE))
    x, y = (amount * scenes.smooth(height, width, 4, rng) for _ in range(2))
    x += np.arange(width, dtype=np.float32)
    y += np.arange(height, dtype=np.float32)[:, None]
    return np.asarray(cv2.remap(framed, x, y, cv2.INTER_LINEAR), np.uint8)


def _slanted(ink: Picture, rng: np.random.Generator) -> Picture:
    """Printed letters, leaning as handwriting does."""
    slant = rng.normal(0, 0.15)
    shift = abs(slant) * len(ink)
    matrix = np.array([[1, -slant, shift if slant > 0 else 0.0], [0, 1, 0]])
    return np.asarray(cv2.warpAffine(ink, matrix, (ink.shape[1] + int(shift), len(ink))), np.uint8)


def _cut(digit: Picture) -> Picture:
    """The digit without the paper around it."""
    x, y, width, height = cv2.boundingRect(digit)
    return digit[y : y + height, x : x + width] if width else np.full((2, 2), 255, np.uint8)


def _scaled(ink: Picture, height: int) -> Picture:
    """The picture so high, its width in proportion."""
    width = max(2, round(ink.shape[1] * height / len(ink)))
    return np.asarray(cv2.resize(ink, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def _one_of(choices: Sequence[T], rng: np.random.Generator) -> T:
    return choices[int(rng.integers(len(choices)))]


def _photo(images: Images, rng: np.random.Generator, *, ink: Kind) -> Picture:
    """Photograph the ink, drawn by some pen, with a margin: serving drops components at the border."""
    drawn = penned(ink(images, rng), rng)
    return photographed(np.pad(drawn, int(len(drawn) * rng.uniform(0.06, 0.3)) + 1), rng)


def _alone(_: Images, rng: np.random.Generator, *, of: Callable[[np.random.Generator], Picture]) -> Picture:
    """Draw a kind that needs no digits."""
    return of(rng)


def _kinds(held_out: bool) -> dict[str, Kind]:
    """The kinds, with the fonts to train with or with those held out."""
    inks: dict[str, Kind] = {
        "letters": partial(_letter, held_out=held_out),
        "words": partial(_word, held_out=held_out),
        "symbols": partial(_symbol, held_out=held_out),
        "shapes": partial(_alone, of=shape),
        "scribbles": partial(_alone, of=scribble),
        "numerals": partial(_numeral, held_out=held_out),
        "bubbles": partial(_alone, of=bubble),
        "several digits": _several,
    }
    pictures = {"blank": scenes.blank, "noise": scenes.noise, "textures": scenes.texture, "scenes": scenes.scene}
    photos = {name: partial(_photo, ink=ink) for name, ink in inks.items()}
    return {**photos, **{name: partial(_alone, of=of) for name, of in pictures.items()}}


#: Name -> the kind, as it is drawn to train with, and with letters of other fonts, to measure with.
KINDS, UNSEEN = _kinds(held_out=False), _kinds(held_out=True)
