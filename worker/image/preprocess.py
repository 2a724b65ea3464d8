"""A picture -> the 28x28 that the model saw in training. Pure functions; serving and training share them.

MNIST's digits are white on black, scaled to fit a 20x20 box and placed by their centre of mass in 28x28
(http://yann.lecun.com/exdb/mnist/). `normalise` brings a picture of one digit there:
reduce -> polarity and background -> threshold -> the digit's parts -> crop, scale, place -> ink like MNIST's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from worker.decoding.decode import decode
from worker.image.fit import BOX, CENTRE, HAIRLINE, SIDE, Pixels, centre, ink_of, inked, placed, span, width
from worker.image.ink import Grey, Split, bright_ink, otsu
from worker.image.lines import LEAST_SIDE, calmed, ruling, unframed
from worker.image.parts import Mask, digit, grown
from worker.image.several import is_parted
from worker.image.shadows import risen

PREPROCESSING_VERSION = "mnist-5"

#: Pictures are averaged down to this: a digit a fifteenth as high still has more than the 20 pixels that it ends in.
WORK_SIDE = 320
#: A picture more than so many times as long as high is a row of things: see `_reduced`.
LONGEST = 4
#: Background and ink nearer than this, in grey levels, hold no ink; nearer than the second, faint ink.
MIN_CONTRAST, LOW_CONTRAST = 10, 48
#: At a second look ink is faint whose edges are lower than so many 255ths of the light: those of a printed sheet in the
#: shade are at 38 and more, those of grain and folds in empty paper below, but for one in fifty.
CLEAR_EDGE = 36
#: The same in standard deviations: cut in the middle, normal noise makes classes 2.65 apart and an even slope 3.46.
MIN_DISTANCE = 3.6
#: At a second look they are clearly apart from here on: shaded digits are 6 and more, three in four scenes are less.
CLEAR_DISTANCE = 5.0
#: What `Seen` may warn of.
WARNINGS = (
    "no_ink",  # nothing stands out from the background; the pixels are all 0, and no other warning is given
    "inverted",  # the ink was darker than its background
    "low_contrast",  # pencil, pale ink: fewer than LOW_CONTRAST grey levels, or edges lower than CLEAR_EDGE
    "touches_border",  # the digit may be cut
    "several_digits",  # two or more, wherever they stand; the pixels show them, or the largest
    "too_thin",  # a hairline, thickened to be seen
    "lines_removed",  # ruling or squares
    "noisy",  # salt and pepper or a grainy sensor, smoothed
    "too_small",  # fewer pixels than the model's box has, or a small part of a large picture that shows more than that
    "uneven_light",  # shadows: paper and ink were told apart from place to place
)
#: A digit of so few pixels in a picture of so many is seen from too far.
SMALL, LARGE = 10, 160


class Seen(NamedTuple):
    """What the model gets to see."""

    #: float32 [28, 28] in [0, 1], ink bright on 0.
    pixels: Pixels
    #: Of `WARNINGS`.
    warnings: tuple[str, ...]
    #: Whether the picture was like MNIST's already and passed unchanged.
    usual: bool = False
    #: Whether it is one thing that is clearly apart from its ground: not broken half way, and not as a second look sees
    #: ink in clouds and leaves.
    clear: bool = True
    #: Where the ink ends at a side of the picture, the room that it leaves on the other, in its own size; else 0. Who
    #: crops a digit tightly does so on both sides: with much room, it is a part of something.
    cut: float = 0.0

    def warned_of(self, warning: str) -> Seen:
        """The same with one more of `WARNINGS`; a blank one as it is."""
        names = {*self.warnings, warning} if "no_ink" not in self.warnings else self.warnings
        return self._replace(warnings=tuple(name for name in WARNINGS if name in names))


def preprocess(data: bytes, *, max_pixels: int, method: str = "mnist") -> Seen:
    """Bytes of a picture -> `Seen`, by `normalise` ("mnist") or `seed` ("seed"); another method is a KeyError.

    Raises `TooManyPixels` and `UndecodableImage`, as `decode` does.
    """
    return METHODS[method](decode(data, max_pixels=max_pixels))


def seed(grey: Grey) -> Seen:
    """The recipe that this project began with, for comparison: squeeze to 28x28, invert, black or white at level 50."""
    small = np.asarray(Image.fromarray(grey).resize((SIDE, SIDE), Image.Resampling.LANCZOS))
    pixels = (255 - small > 50).astype(np.float32)
    return Seen(pixels, () if pixels.any() else ("no_ink",))


def _unwatched(stage: str, levels: NDArray[Any]) -> None:
    """Shows nobody what there is on the way."""


Watch = Callable[[str, NDArray[Any]], None]


def normalise(grey: Grey, watch: Watch = _unwatched) -> Seen:
    """Uint8 [H, W], ink darker or brighter than its background -> `Seen` as in MNIST; all 0, `no_ink`, if blank.

    `watch` is shown what there is on the way: "bright" uint8 [h, w], "lines" bool [h, w] where there was ruling, "mask"
    bool [h, w], "ink" float32 [h, w].
    """
    grey, noisy = calmed(_reduced(grey))
    bright, inverted = bright_ink(unframed(grey))
    watch("bright", bright)
    if _is_like_mnist(bright):
        return Seen(np.divide(bright, 255, dtype=np.float32), ("inverted",) * inverted, usual=True)
    bright, split, lines = _unruled(bright)
    if lines is not None:
        watch("lines", lines)
    drawn = split.contrast >= MIN_CONTRAST and split.distance >= MIN_DISTANCE
    mask, several = digit(bright > split.threshold, lines is not None) if drawn else (np.zeros((1, 1), np.bool_), False)
    noticed = {
        "inverted": inverted,
        "low_contrast": split.contrast < LOW_CONTRAST,
        "several_digits": several,
        "lines_removed": lines is not None,
        "noisy": noisy,
    }
    return _seen(bright, mask, split.paper, noticed, watch)


def evened(grey: Grey, watch: Watch = _unwatched) -> Seen:
    """A second look at a picture of which `normalise` made no digit: paper and ink told apart from place to place.

    It costs milliseconds, and on clean paper it sees less; a small picture has no room for shadows, so that it sees
    nothing. Shows `watch` the same stages.
    """
    if min(grey.shape) < LEAST_SIDE:
        return _blank()
    grey, noisy = calmed(_reduced(grey))
    bright, rise, threshold, inverted = risen(unframed(grey))
    watch("bright", bright)
    paper = int(np.median(bright))
    lines = ruling(bright > (paper + threshold + 1) // 2)
    mask = rise > threshold
    clear = _distance(rise, mask) >= CLEAR_DISTANCE
    if lines is not None:
        watch("lines", lines)
        mask &= ~grown(lines)
    mask, several = digit(mask, lines is not None)
    contrast = int(np.median(bright[mask])) - paper if mask.any() else 0
    if contrast < MIN_CONTRAST:
        mask = np.zeros((1, 1), np.bool_)
    noticed = {
        "inverted": inverted,
        "low_contrast": threshold < CLEAR_EDGE,
        "several_digits": several,
        "lines_removed": lines is not None,
        "noisy": noisy,
        "uneven_light": True,
    }
    seen = _seen(bright, mask, paper, noticed, watch)
    return seen._replace(clear=seen.clear and clear)


def _distance(levels: NDArray[np.int16], mask: Mask) -> float:
    """Between the means of ink and ground, in standard deviations within them; 0 where one of them is missing."""
    if not mask.any() or mask.all():
        return 0.0
    ink, ground = levels[mask], levels[~mask]
    within = (float(ink.var()) * ink.size + float(ground.var()) * ground.size) / levels.size
    return (float(ink.mean()) - float(ground.mean())) / math.sqrt(max(within, 1.0))


def _seen(bright: Grey, mask: Mask, paper: int, noticed: dict[str, bool], watch: Watch) -> Seen:
    """The digit that `mask` holds, as in MNIST."""
    watch("mask", mask)
    if not mask.any():
        return _blank()
    ink = ink_of(bright, mask, paper)
    watch("ink", ink)
    pixels, thickened = inked(placed(ink, mask))
    noticed["touches_border"] = bool(mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any())
    noticed["too_small"] = max(bright.shape) >= LARGE and _side(mask) < SMALL
    noticed["too_thin"] = thickened and width(mask) < HAIRLINE
    warnings = tuple(name for name in WARNINGS if noticed.get(name))
    return Seen(pixels, warnings, clear=not is_parted(mask), cut=_cut(mask) if noticed["touches_border"] else 0.0)


def _spans(mask: Mask) -> tuple[tuple[int, int], tuple[int, int]]:
    """The rows and the columns of what is in it, each the first and one past the last."""
    return span(np.logical_or.reduce(mask, axis=1)), span(np.logical_or.reduce(mask, axis=0))


def _side(mask: Mask) -> int:
    """The longer side of what is in it, in pixels."""
    return max(last - first for first, last in _spans(mask))


def _cut(mask: Mask) -> float:
    """The most room beside what is in it, in its own size, that lies across from a side at which it ends."""
    rooms = [
        max(first * (last == size), (size - last) * (first == 0))
        for (first, last), size in zip(_spans(mask), mask.shape, strict=True)
    ]
    return float(max(rooms)) / _side(mask)


def _blank() -> Seen:
    return Seen(np.zeros((SIDE, SIDE), np.float32), ("no_ink",))


def _unruled(bright: Grey) -> tuple[Grey, Split, Mask | None]:
    """The picture without ruling, its split into paper and ink, and where the ruling was; None for none.

    Print may be paler than ink: what stands half as high above the paper may be a line.
    """
    split = otsu(bright)
    mask = bright > (split.paper + split.threshold + 1) // 2
    lines = ruling(mask)
    if lines is None:
        return bright, split, None
    soft = grown(lines) & ~grown(mask & ~lines)  # the edge of a line, not of the ink beside it
    bright = np.where(lines | soft, np.minimum(bright, np.uint8(split.paper)), bright)
    return bright, otsu(bright), lines


def _reduced(grey: Grey) -> Grey:
    """A long row of digits is reduced by its shorter side, as long as it has no more pixels for that."""
    longer = min(max(grey.shape), LONGEST * min(grey.shape))
    factor = -(-max(longer, max(grey.shape) // LONGEST) // WORK_SIDE)
    return np.asarray(Image.fromarray(grey).reduce(factor)) if factor > 1 else grey


def _is_like_mnist(bright: Grey) -> bool:
    """Whether this is already ink in a 20x20 box, in its place on pure black: such a digit passes unchanged."""
    if bright.shape != (SIDE, SIDE) or bright.max() < 200:
        return False
    rows, columns = bright.sum(axis=1), bright.sum(axis=0)
    centred = abs(centre(rows) - CENTRE) <= 1 and abs(centre(columns) - CENTRE) <= 1
    return centred and BOX - 1 <= max(last - first for first, last in (span(rows), span(columns))) <= BOX


#: A way to look at grey levels, and to show what there is on the way.
Look = Callable[[Grey, Watch], Seen]

#: How grey levels become what the model sees.
METHODS: dict[str, Callable[[Grey], Seen]] = {"mnist": normalise, "seed": seed}
