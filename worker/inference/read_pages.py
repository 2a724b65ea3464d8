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
#: On a page of which less than this share of the ink was read, SAMPLE marks are tried turned by quarters.
POOR, SAMPLE = 0.95, 32
#: The page is turned if that makes all marks together LIKELIER to be digits, as a difference of logarithms: most people
#: upload pages upright. A mark counts at least as the chance LEAST, so that one blot does not decide; the mean chance
#: is at least WELL.
LIKELIER, LEAST, WELL = 3.0, 0.03, 0.5

Read = Callable[[Floats32], Reading]

_NOTHING = np.empty((0, SIDE, SIDE), np.float32)


def read_pages(pages: Sequence[Grey], read: Read, thresholds: Mapping[str, float]) -> list[PageReading | DigitqError]:
    """Read pages, each uint8 [H, W], with ink darker or brighter than the paper.

    All candidates of all pages go through `read` in one call. Of pages that read poorly, some marks are read turned by
    a quarter, a half and three quarters; pages that turn out to lie so are read again. Boxes are in pixels of the page
    as given. `thresholds` override `DEFAULT_THRESHOLDS`. A page with too many digits has an error as result.
    """
    limits = {**DEFAULT_THRESHOLDS, **thresholds}
    layouts = [lay_out(page) for page in pages]
    best = list(zip(layouts, _read_all(layouts, pages, read, limits), strict=True))
    turns = _quarter_turns([layout if found.share < POOR else None for layout, found in best], read)
    turned = [(at, lay_out(pages[at], quarters)) for at, quarters in enumerate(turns) if quarters]
    if turned:
        again = _read_all([layout for _, layout in turned], [pages[at] for at, _ in turned], read, limits)
        for (at, layout), found in zip(turned, again, strict=True):
            if found.share > best[at][1].share:
                best[at] = layout, found
    return [_result(layout, found) for layout, found in best]


def _quarter_turns(layouts: Sequence[Layout | None], read: Read) -> list[int]:
    """Return by how many quarters clockwise each page must be turned, judged by some of its marks; 0 without a page."""
    samples = [layout.sample(SAMPLE) if layout else _NOTHING for layout in layouts]
    every = np.concatenate([_NOTHING, *samples])
    if not len(every):
        return [0] * len(layouts)
    ways = np.concatenate([every] * 4)
    for quarters in (1, 2, 3):  # about the middle of pixel 14, where the centre of mass is
        ways[quarters * len(every) : (quarters + 1) * len(every), 1:, 1:] = np.rot90(
            every[:, 1:, 1:], -quarters, (1, 2)
        )
    reading = read(ways)
    chances = (reading.probabilities.max(axis=1) * reading.digitness).reshape(4, -1)
    turns, at = [], 0
    for sample in samples:
        part = chances[:, at : at + len(sample)]
        at += len(sample)
        sums = np.log(np.maximum(part, LEAST)).sum(axis=1)
        quarters = int(sums.argmax())
        turns.append(quarters if sums[quarters] >= sums[0] + LIKELIER and part[quarters].mean() >= WELL else 0)
    return turns


def _read_all(
    layouts: Sequence[Layout], pages: Sequence[Grey], read: Read, limits: Mapping[str, float]
) -> list[PageDigits]:
    """Read the candidates of all layouts in one call."""
    reading = read(np.concatenate([_NOTHING, *[one.pixels for one in layouts]]))
    found, at = [], 0
    for layout, page in zip(layouts, pages, strict=True):
        part = slice(at, at + len(layout.pixels))
        found.append(
            page_digits(layout, Reading(reading.probabilities[part], reading.digitness[part]), page.shape, limits)
        )
        at = part.stop
    return found


def _result(layout: Layout, found: PageDigits) -> PageReading | DigitqError:
    count = sum(one.decision != "reject" for number in found.numbers for one in number.digits)
    if count > MOST_DIGITS:
        return TooManyDigits(f"The page has {count} digits or more; at most {MOST_DIGITS} are read", limit=MOST_DIGITS)
    return PageReading(found.numbers, rotated=90 * layout.quarters)
