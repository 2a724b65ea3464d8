"""Single marks on a page: digits, letters and signs, written or printed, as ink of a wanted size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from worker.image.arrays import spans
from worker.training.data.distort import distort
from worker.training.data.idx import Images, Labels
from worker.training.drawing.letters import (
    ARITHMETIC,
    DRAWN,
    LETTERS,
    LOOKALIKES,
    NUMERALS,
    SIZE,
    WRITTEN,
    Font,
    Picture,
    print_,
    prints,
    write,
)

#: The height of a digit in MNIST, in pixels.
_MNIST = 20
#: Ink below this level is the soft edge of a stroke.
SOFT = 80
#: Letters between which numbers stand.
SPELLING = LETTERS + "".join(sorted(c for c in LOOKALIKES if c.isalpha()))
#: Empty and other circles of forms.
RING, DISC = "○", "●"
#: The share of digits that are written as a 1 of a single stroke, where it may be a 1.
PLAIN = 0.05
PRINTED_SIGNS = "+-−×÷=()[]/.,:;%*#&?!<>'\"°€£$@√"


class Ink(NamedTuple):
    """One mark, without the paper around it."""

    #: What it is: a digit, a letter or a sign.
    text: str
    #: Coverage by ink, 0 to 255: uint8 [h, w].
    picture: Picture
    #: The place of its upper edge: 0 at the top of a digit in this row, 1 at its foot.
    top: float

    @property
    def kind(self) -> str:
        """`digit`, `letter` or `sign`."""
        if self.text in "0123456789":
            return "digit"
        return "letter" if self.text.isalpha() else "sign"


@dataclass(frozen=True)
class Hand:
    """A writer with a pen, or a font: draws marks that belong together."""

    #: Of a digit, in pixels.
    height: int
    #: None if it is handwriting.
    font: Font | None
    #: The width of strokes as a part of the height.
    pen: float
    #: How dark the ink is, 0 to 1.
    dark: float
    #: Handwritten digits to choose from, as in MNIST, and their labels.
    images: Images
    labels: Labels
    #: The share of these that are distorted.
    distorted: float = 0.7

    def digit(self, rng: np.random.Generator, label: int | None = None, scale: float = 1.0) -> Ink:
        """Draw a digit, any if `label` is None; `scale` is below 1 for exponents."""
        if self.font:
            return self.printed(str(rng.integers(10) if label is None else label), rng, scale)
        if rng.random() < PLAIN and label in (None, 1) and 1 in self.labels:
            return self._written("1", "5059", scale * rng.uniform(0.8, 1.12), 0.5 * scale, rng)
        choices = np.arange(len(self.labels)) if label is None else np.flatnonzero(self.labels == label)
        chosen = int(rng.choice(choices))
        image = self.images[chosen]
        image = distort(image[None].copy(), rng)[0] if rng.random() < self.distorted else image
        height = scale * self.height * rng.uniform(0.88, 1.12)
        sharp = self._penned(_resized(_cut(image), height / _MNIST), rng)
        top = (1 - sharp.shape[0] / self.height) * rng.uniform(0.3, 1.0)
        return Ink(str(self.labels[chosen]), sharp, top)

    def letter(self, rng: np.random.Generator) -> Ink:
        """Draw any letter, rarely a numeral of another script."""
        if self.font:
            return self.printed(_one_of(SPELLING, rng), rng)
        form = _one_of(tuple(WRITTEN), rng)
        height = rng.uniform(0.9, 1.2) if form.isupper() else rng.uniform(0.55, 0.9)
        return self._written(form, WRITTEN[form], height, 1 - height / 2, rng)

    def sign(self, rng: np.random.Generator, text: str | None = None) -> Ink:
        """Draw a sign of arithmetic or punctuation, any if `text` is None."""
        if self.font:
            return self.printed(text or _one_of(NUMERALS if rng.random() < 0.15 else PRINTED_SIGNS, rng), rng)
        if text is None and rng.random() < 0.2:
            name = _one_of(tuple(DRAWN), rng)
            return self._written("*", DRAWN[name], rng.uniform(0.6, 1.1), 0.5, rng)
        text = text or _one_of(tuple(ARITHMETIC), rng)
        height, middle, form = ARITHMETIC[text]
        return self._written(text, form, height * rng.uniform(0.7, 1.25), middle, rng)

    def bubble(self, rng: np.random.Generator) -> Ink:
        """Draw a circle to be marked on a form: empty, filled, or about a letter."""
        side, way = max(6, round(self.height * rng.uniform(0.6, 1.4))), rng.random()
        radius, thickness = side / 2 - 1, max(1, round(side * rng.uniform(0.04, 0.12)))
        picture, middle = np.zeros((side, side), np.uint8), round((side - 1) * 8)
        filled = way > 0.7
        cv2.circle(
            picture, (middle, middle), round((radius - (not filled) * thickness / 2) * 16), 255,
            -1 if filled else thickness, cv2.LINE_AA, 4,
        )  # fmt: skip
        if way < 0.2:
            letter = _resized(_cut(write(WRITTEN[_one_of(tuple(WRITTEN), rng)], rng)), 0.5 * side / SIZE)
            height, width = (min(side, length) for length in letter.shape)
            top, left = (side - height) // 2, (side - width) // 2
            place = picture[top : top + height, left : left + width]
            np.maximum(place, letter[:height, :width], out=place)
        return Ink(RING if 0.2 <= way <= 0.7 else DISC, self._inked(picture), 0.5 - side / self.height / 2)

    def printed(self, text: str, rng: np.random.Generator, scale: float = 1.0) -> Ink:
        """Set one character in the font; a blank of one pixel if the font lacks it."""
        assert self.font is not None
        if not prints(text, self.font):
            return Ink(text, np.zeros((1, 1), np.uint8), 0.0)
        drawn = print_(text, self.font)
        upper, lower = self.font.getbbox("8")[1::2]
        factor = scale * self.height / max(lower - upper, 1)
        top = (self.font.getbbox(text)[1] - upper) / max(lower - upper, 1)
        return Ink(text, self._inked(_resized(_cut(drawn), factor)), top * scale)

    def _written(self, text: str, form: str, height: float, middle: float, rng: np.random.Generator) -> Ink:
        """Write a form with this pen; `height` in digits' heights is that of the grid it is given on."""
        drawn = _cut(write(form, rng, self.pen / height * rng.uniform(0.8, 1.25)))
        picture = self._inked(_resized(drawn, height * self.height / SIZE))
        return Ink(text, picture, middle - picture.shape[0] / self.height / 2 + rng.normal(0, 0.04))

    def _penned(self, soft: Picture, rng: np.random.Generator) -> Picture:
        """Cut the soft edges of an enlarged digit where its strokes have about the pen's width."""
        level = 200 - 900 * min(self.pen, 0.17) + rng.uniform(-15, 15)
        sharp = ((soft.astype(np.float32) - level) * 4 + 128).clip(0, 255).astype(np.uint8)
        return self._inked(_cut(sharp if np.count_nonzero(sharp) > soft.size / 25 else soft))

    def _inked(self, ink: Picture) -> Picture:
        return np.asarray(np.rint(ink * np.float32(self.dark)), np.uint8)


def _cut(ink: Picture) -> Picture:
    """Cut off the paper around the ink."""
    mask = ink > SOFT
    if not mask.any():
        return np.full((2, 2), 255, np.uint8)
    (top, bottom), (left, right) = spans(mask)
    return ink[top:bottom, left:right]


def _resized(ink: Picture, factor: float) -> Picture:
    size = max(2, round(ink.shape[1] * factor)), max(2, round(ink.shape[0] * factor))
    return np.asarray(cv2.resize(ink, size, interpolation=cv2.INTER_CUBIC if factor > 1 else cv2.INTER_AREA), np.uint8)


def _one_of(choices: str | tuple[str, ...], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]
