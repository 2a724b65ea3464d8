"""Reads the numbers on pages: grey levels in, digits with their boxes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from shared.errors import DigitqError, TooManyDigits
from shared.numbers import PageReading
from worker.image.arrays import Floats32, Grey
from worker.inference.mlp import SIDE, Reading
from worker.inference.page_digits import DEFAULT_THRESHOLDS, PageDigits, page_digits
from worker.page.layout import Layout, lay_out

#: At most this many digits are read from a page.
MOST_DIGITS = 1000
#: A page of which less than this share of the ink was read is tried turned by quarters.
POOR = 0.5
#: Turned, this share must be read, and this many times as much as upright.
WELL, BETTER = 0.6, 1.4

Read = Callable[[Floats32], Reading]


def read_pages(pages: Sequence[Grey], read: Read, thresholds: Mapping[str, float]) -> list[PageReading | DigitqError]:
    """Read pages, each uint8 [H, W], with ink darker or brighter than the paper.

    All candidates of all pages go through `read` in one call; in a second one, those of pages that read poorly, turned
    by a quarter, a half and three quarters. Boxes are in pixels of the page as given. `thresholds` override
    `DEFAULT_THRESHOLDS`. A page with too many digits has an error as result.
    """
    limits = {**DEFAULT_THRESHOLDS, **thresholds}
    upright = [lay_out(page) for page in pages]
    best = list(zip(upright, _read_all(upright, [page.shape for page in pages], read, limits), strict=True))
    poor = [at for at, (layout, found) in enumerate(best) if found.share < POOR and not layout.crowded]
    turned = [(at, lay_out(pages[at], quarters)) for at in poor for quarters in (1, 2, 3)]
    shapes = [pages[at].shape for at, _ in turned]
    again = _read_all([layout for _, layout in turned], shapes, read, limits) if turned else []
    for (at, layout), found in zip(turned, again, strict=True):
        known, before = best[at]
        if found.share >= max(WELL, before.share * (1.0 if known.quarters else BETTER)):
            best[at] = layout, found
    return [_result(layout, found) for layout, found in best]


def _read_all(
    layouts: Sequence[Layout], shapes: Sequence[tuple[int, ...]], read: Read, limits: Mapping[str, float]
) -> list[PageDigits]:
    """Read the candidates of all layouts in one call."""
    reading = read(np.concatenate([np.empty((0, SIDE, SIDE), np.float32), *[one.pixels for one in layouts]]))
    found, at = [], 0
    for layout, shape in zip(layouts, shapes, strict=True):
        part = slice(at, at + len(layout.pixels))
        found.append(page_digits(layout, Reading(reading.probabilities[part], reading.digitness[part]), shape, limits))
        at = part.stop
    return found


def _result(layout: Layout, found: PageDigits) -> PageReading | DigitqError:
    count = sum(one.decision != "reject" for number in found.numbers for one in number.digits)
    if count > MOST_DIGITS:
        return TooManyDigits(f"The page has {count} digits or more; at most {MOST_DIGITS} are read", limit=MOST_DIGITS)
    return PageReading(found.numbers, rotated=90 * layout.quarters)
