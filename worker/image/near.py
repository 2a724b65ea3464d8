"""A small digit on a large page, seen from near: the part of the picture that has ink, at its own resolution.

Reduced to what the preprocessing works on, a digit of 60 pixels on a sheet that was scanned at 300 dpi has five.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter

from worker.image.fit import BOX
from worker.image.ink import Grey
from worker.image.lines import ruling
from worker.image.parts import Labels, Mask, _boxes, components, grown
from worker.image.shadows import Levels

#: The ink is looked for on a copy as large as this. Below two pixels for one there is nothing to gain by a nearer look.
LOOK_SIDE = 320
#: What stands out by less than this part of what the darkest does is grain, or ruling; thin ink shares its pixels with
#: paper, and stands out by a third.
STRONG = 0.1
#: With more pixels of it than this on the copy it is a large digit, a page of text or a texture: cheap to tell.
MOST = 4 * BOX**2
#: Around the largest part, in its own sizes: what is no further belongs to it, and so much is cut out beside it.
REACH, MARGIN = 0.6, 1.0
#: Anything else with this part of its ink is no speck, so that it does not stand alone; or with less, as a thin 1 has
#: beside a thick 0, and this part of its size.
SPECK, THIN, LONG = 0.15, 0.05, 0.6


class Near(NamedTuple):
    """What the preprocessing gets to see of a picture."""

    grey: Grey
    #: Whether the digit has fewer pixels than the model's box, at the resolution of the picture.
    too_small: bool = False


def near(grey: Grey, whole: Callable[[], Grey]) -> Near:
    """The part with ink, if that is small and stands alone; else all of it. `whole` has it in full resolution."""
    factor = -(-max(grey.shape) // LOOK_SIDE)
    found = _alone(_ink(np.asarray(Image.fromarray(grey).reduce(factor)))) if factor > 1 else None
    if found is None:
        return Near(grey)
    low, high = found
    if factor * (high - low).max() < 2 * BOX:
        full = whole()
        factor = factor * max(full.shape) / max(grey.shape)
        grey = full
    side = (high - low).max()
    top, left = np.floor((low - MARGIN * side) * factor).astype(int).clip(0)
    bottom, right = np.ceil((high + MARGIN * side) * factor).astype(int)
    return Near(np.ascontiguousarray(grey[top:bottom, left:right]), bool(side * factor < BOX))


def _ink(small: Grey) -> Levels:
    """By how much ink stands out from the ground, int16 [h, w], dark or bright, whichever does so more; else 0."""
    height, width = small.shape
    coarse = Image.fromarray(small).reduce(max(1, max(height, width) // 32)).filter(ImageFilter.MedianFilter(5))
    ground = np.asarray(coarse.resize((width, height), Image.Resampling.BILINEAR), np.int16)
    rise = small - ground
    if -int(rise.min()) > int(rise.max()):
        rise = -rise
    if np.count_nonzero(2 * rise > rise.max()) > MOST:
        return np.zeros_like(rise)
    mask: Mask = rise > STRONG * int(rise.max())
    lines = ruling(mask)
    return np.where(mask if lines is None else mask & ~grown(lines), rise, 0)


def _alone(ink: Levels) -> tuple[Labels, Labels] | None:
    """The corners of the box around the only ink, each [row, column]; None if it is large, or not alone, or none."""
    mask = ink > 0
    if not 0 < np.count_nonzero(mask) <= MOST:
        return None
    labels, count = components(mask)
    low, high = _boxes(labels, count)
    mass, size = np.bincount(labels.ravel(), ink.ravel())[1:], (high - low).max(axis=0)
    main = int(mass.argmax())
    reach = max(2.0, REACH * size[main])
    own = ((low < high[:, [main]] + reach) & (high > low[:, [main]] - reach)).all(axis=0)
    first, last = low[:, own].min(axis=1), high[:, own].max(axis=1)
    side = (last - first).max()
    share = mass / mass[own].sum()
    other = ~own & ((share >= SPECK) | ((share >= THIN) & (size >= LONG * side)))
    at_border = (first == 0).any() or (last == mask.shape).any()
    return None if side >= BOX or other.any() or at_border else (first, last)
