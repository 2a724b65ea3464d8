"""Turns a picture of one digit into the input of the model: 28x28 pixels as in MNIST.

MNIST's digits are white on black, scaled to fit a 20x20 box and placed by their centre of mass in 28x28
(http://yann.lecun.com/exdb/mnist/). The steps: reduce; find polarity and background; threshold; select the digit's
components; crop, scale and place them; give the strokes MNIST's brightness and width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from worker.image.arrays import Grey, Mask, Signed, border_of, longer_side, span, spans
from worker.image.border_lines import crop_frames
from worker.image.components import grown
from worker.image.mnist_format import (
    BOX,
    CENTRE,
    HAIRLINE,
    SIDE,
    centre_of_mass,
    ink_levels,
    normalise_strokes,
    place,
    relative_stroke_width,
)
from worker.image.model_input import WARNINGS, ModelInput, blank
from worker.image.multiple_digits import is_split
from worker.image.noise import denoise
from worker.image.ruling import LEAST_SIDE, find_ruling
from worker.image.segment import find_digit
from worker.image.threshold import Split, bright_ink, otsu
from worker.image.uneven_light import flatten_light

#: Pictures are reduced to this longer side: a digit a fifteenth as high still has more than the 20 pixels it ends in.
WORK_SIDE = 320
#: A picture more than this many times as long as high is a row of digits; see `_reduced`.
LONGEST = 4
#: With less contrast between ink and background, in grey levels, there is no ink; below the second the ink is faint.
MIN_CONTRAST, LOW_CONTRAST = 10, 48
#: In uneven light, ink whose edges are lower than this, in 255ths of the light, is faint: edges of a printed sheet in
#: the shade reach 38 and more, those of grain and folds in empty paper are lower, except one in fifty.
CLEAR_EDGE = 36
#: Least distance of ink and background in standard deviations within them: split in the middle, normal noise has 2.65
#: and an even slope 3.46.
MIN_DISTANCE = 3.6
#: The same in uneven light, for clear ink: shaded digits have 6 and more, three in four pictures of scenes less.
CLEAR_DISTANCE = 5.0
#: A digit smaller than SMALL in a reduced picture of LARGE or more, in pixels, was photographed from too far.
SMALL, LARGE = 10, 160

#: Called with the name of each step and its result, in order: "bright" uint8 [h, w]; "lines" bool [h, w] if ruling was
#: found; "mask" bool [h, w]; "ink" float32 [h, w] in [0, 1]. Later steps are missing if there is no ink.
Observer = Callable[[str, NDArray[Any]], None]
#: `normalise` or `normalise_uneven`.
Normalise = Callable[[Grey, Observer], ModelInput]


def ignore(step: str, result: NDArray[Any]) -> None:
    """Observe nothing."""


def normalise(grey: Grey, observe: Observer = ignore) -> ModelInput:
    """Normalise uint8 [H, W], ink darker or brighter than its background, as MNIST's digits are.

    A blank picture gives zeros and the warning `no_ink`; one that is like MNIST's already passes unchanged.
    """
    grey, noisy = denoise(_reduced(grey))
    bright, inverted = bright_ink(crop_frames(grey))
    observe("bright", bright)
    if _is_mnist_like(bright):
        return ModelInput(np.divide(bright, 255, dtype=np.float32), ("inverted",) * inverted, mnist_like=True)
    bright, split, lines = _without_ruling(bright)
    if lines is not None:
        observe("lines", lines)
    drawn = split.contrast >= MIN_CONTRAST and split.distance >= MIN_DISTANCE
    mask, several = find_digit(bright > split.threshold, lines is not None) if drawn else (_no_ink(), False)
    noticed = {
        "inverted": inverted,
        "low_contrast": split.contrast < LOW_CONTRAST,
        "several_digits": several,
        "lines_removed": lines is not None,
        "noisy": noisy,
    }
    return _model_input(bright, mask, split.paper, noticed, observe)


def normalise_uneven(grey: Grey, observe: Observer = ignore) -> ModelInput:
    """Normalise a picture in which `normalise` found no digit by its local contrast, as for shadows.

    Takes milliseconds, and finds less than `normalise` on clean paper. Small pictures, without room for shadows, give
    `no_ink`.
    """
    if min(grey.shape) < LEAST_SIDE:
        return blank()
    grey, noisy = denoise(_reduced(grey))
    bright, rise, threshold, inverted = flatten_light(crop_frames(grey))
    observe("bright", bright)
    paper = int(np.median(bright))
    lines = find_ruling(bright > (paper + threshold + 1) // 2)
    mask = rise > threshold
    clear = _distance(rise, mask) >= CLEAR_DISTANCE
    if lines is not None:
        observe("lines", lines)
        mask &= ~grown(lines)
    mask, several = find_digit(mask, lines is not None)
    contrast = int(np.median(bright[mask])) - paper if mask.any() else 0
    noticed = {
        "inverted": inverted,
        "low_contrast": threshold < CLEAR_EDGE,
        "several_digits": several,
        "lines_removed": lines is not None,
        "noisy": noisy,
        "uneven_light": True,
    }
    found = _model_input(bright, mask if contrast >= MIN_CONTRAST else _no_ink(), paper, noticed, observe)
    return found._replace(clear=found.clear and clear)


def _model_input(bright: Grey, mask: Mask, paper: int, noticed: dict[str, bool], observe: Observer) -> ModelInput:
    """Bring the digit in `mask` to MNIST's format; `noticed` says which warnings hold so far."""
    observe("mask", mask)
    if not mask.any():
        return blank()
    ink = ink_levels(bright, mask, paper)
    observe("ink", ink)
    pixels, thickened = normalise_strokes(place(ink, mask))
    noticed["touches_border"] = bool(border_of(mask).any())
    noticed["too_small"] = max(bright.shape) >= LARGE and longer_side(mask) < SMALL
    noticed["too_thin"] = thickened and relative_stroke_width(mask) < HAIRLINE
    warnings = tuple(name for name in WARNINGS if noticed.get(name))
    return ModelInput(pixels, warnings, clear=not is_split(mask), cut=_cut(mask) if noticed["touches_border"] else 0.0)


def _no_ink() -> Mask:
    return np.zeros((1, 1), np.bool_)


def _distance(levels: Signed, mask: Mask) -> float:
    """Return the distance of the means of ink and background in standard deviations within them; 0 if one is empty."""
    if not mask.any() or mask.all():
        return 0.0
    ink, ground = levels[mask], levels[~mask]
    within = (float(ink.var()) * ink.size + float(ground.var()) * ground.size) / levels.size
    return (float(ink.mean()) - float(ground.mean())) / math.sqrt(max(within, 1.0))


def _cut(mask: Mask) -> float:
    """Return the most free room opposite a side at which the digit ends, in sizes of the digit; see `ModelInput`."""
    rooms = [
        max(first * (last == size), (size - last) * (first == 0))
        for (first, last), size in zip(spans(mask), mask.shape, strict=True)
    ]
    return float(max(rooms)) / longer_side(mask)


def _without_ruling(bright: Grey) -> tuple[Grey, Split, Mask | None]:
    """Return the picture without ruling, its split into paper and ink, and the ruling, or None.

    Print may be paler than ink: a line needs half the threshold's height above the paper.
    """
    split = otsu(bright)
    mask = bright > (split.paper + split.threshold + 1) // 2
    lines = find_ruling(mask)
    if lines is None:
        return bright, split, None
    soft = grown(lines) & ~grown(mask & ~lines)  # the soft edge of a line, but not of the ink beside it
    bright = np.where(lines | soft, np.minimum(bright, np.uint8(split.paper)), bright)
    return bright, otsu(bright), lines


def _reduced(grey: Grey) -> Grey:
    """Reduce to WORK_SIDE; a long row of digits by its shorter side, to at most LONGEST times as many pixels."""
    longer = min(max(grey.shape), LONGEST * min(grey.shape))
    factor = -(-max(longer, max(grey.shape) // LONGEST) // WORK_SIDE)
    return np.asarray(Image.fromarray(grey).reduce(factor)) if factor > 1 else grey


def _is_mnist_like(bright: Grey) -> bool:
    """Tell whether this is ink on black in a 20x20 box in MNIST's place already."""
    if bright.shape != (SIDE, SIDE) or bright.max() < 200:
        return False
    rows, columns = bright.sum(axis=1), bright.sum(axis=0)
    centred = abs(centre_of_mass(rows) - CENTRE) <= 1 and abs(centre_of_mass(columns) - CENTRE) <= 1
    return centred and BOX - 1 <= max(last - first for first, last in (span(rows), span(columns))) <= BOX
