"""Crops a small digit on a large page at full resolution.

The preprocessing reduces pictures: of a digit of 60 pixels on a sheet scanned at 300 dpi it would keep five.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter

from worker.image.arrays import Grey, Ints, Mask, Signed
from worker.image.components import bounding_boxes, components, grown
from worker.image.mnist_format import BOX
from worker.image.ruling import find_ruling

#: Ink is located on a copy of this size. A crop at less than twice its resolution would gain nothing.
COPY_SIDE = 320
#: Pixels that stand out by less than this share of the strongest are grain or ruling. Thin ink, which shares its pixels
#: with paper, reaches a third.
STRONG = 0.1
#: More ink pixels than this on the copy are a large digit, a page of text or a texture; counting them is cheap.
MOST = 4 * BOX**2
#: In sizes of the largest component: ink within REACH belongs to it; MARGIN is cropped around it.
REACH, MARGIN = 0.6, 1.0
#: Other ink is more than a speck, so that the digit is not alone, with SPECK of the digit's ink; or with THIN of it and
#: LONG of its size: a thin 1 beside a thick 0.
SPECK, THIN, LONG = 0.15, 0.05, 0.6


class CloseUp(NamedTuple):
    """The part of a picture that is preprocessed."""

    grey: Grey
    #: Whether the digit has fewer pixels than the model's box at full resolution.
    too_small: bool = False


def close_up(grey: Grey, full_size: Callable[[], Grey]) -> CloseUp:
    """Crop uint8 [H, W] to its ink, if that is small and alone; else return all of it.

    `full_size` decodes the picture at full resolution; it is called only if the crop needs that.
    """
    factor = -(-max(grey.shape) // COPY_SIDE)
    found = _only_digit(_ink(np.asarray(Image.fromarray(grey).reduce(factor)))) if factor > 1 else None
    if found is None:
        return CloseUp(grey)
    low, high = found
    if factor * (high - low).max() < 2 * BOX:
        full = full_size()
        factor = factor * max(full.shape) / max(grey.shape)
        grey = full
    side = (high - low).max()
    top, left = np.floor((low - MARGIN * side) * factor).astype(int).clip(0)
    bottom, right = np.ceil((high + MARGIN * side) * factor).astype(int)
    return CloseUp(np.ascontiguousarray(grey[top:bottom, left:right]), bool(side * factor < BOX))


def _ink(small: Grey) -> Signed:
    """Return by how much ink differs from the background, int16 [h, w], 0 elsewhere.

    Ink is dark or bright, whichever differs more. All is 0 if there is too much of it for a small digit.
    """
    height, width = small.shape
    coarse = Image.fromarray(small).reduce(max(1, max(height, width) // 32)).filter(ImageFilter.MedianFilter(5))
    ground = np.asarray(coarse.resize((width, height), Image.Resampling.BILINEAR), np.int16)
    rise = small - ground
    if -int(rise.min()) > int(rise.max()):
        rise = -rise
    if np.count_nonzero(2 * rise > rise.max()) > MOST:
        return np.zeros_like(rise)
    mask: Mask = rise > STRONG * int(rise.max())
    lines = find_ruling(mask)
    return np.where(mask if lines is None else mask & ~grown(lines), rise, 0)


def _only_digit(ink: Signed) -> tuple[Ints, Ints] | None:
    """Return two corners [row, column] of the box around the ink; None unless it is one small thing inside the page."""
    mask = ink > 0
    if not 0 < np.count_nonzero(mask) <= MOST:
        return None
    labels, count = components(mask)
    low, high = bounding_boxes(labels, count)
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
