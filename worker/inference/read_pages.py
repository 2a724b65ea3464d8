"""Reads the numbers on pages: grey levels in, digits with their boxes out."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence

import numpy as np

from shared.errors import DigitqError, TooManyDigits
from shared.numbers import PageReading
from worker.image.arrays import Floats32, Grey
from worker.inference.decision import DEFAULT_THRESHOLDS
from worker.inference.mlp import SIDE, Reading
from worker.inference.page_digits import DEFAULT_THRESHOLDS as PAGE_THRESHOLDS
from worker.inference.page_digits import PageDigits, page_digits
from worker.inference.read_sudoku import read_sudoku
from worker.inference.second_look import looked_again
from worker.inference.table_texts import in_cells
from worker.page.grid.find import find_grid
from worker.page.layout import Layout, lay_out

#: A page with fewer pixels along a side has no digit.
LEAST_SIDE = 8
#: At most this many digits are read from a page.
MOST_DIGITS = 1000
#: On a page of which less than this share of the ink was read, SAMPLE marks are tried turned by quarters.
POOR, SAMPLE = 0.95, 32
#: The page is turned if that makes all marks together LIKELIER to be digits, as a sum of log-odds; when the evidence is
#: balanced it stays as uploaded, as most are upright. Most digits upside down look like some digit, but few quite so: a
#: chance of 0.999 tells more than one of 0.99. A mark counts as a chance from LEAST to MOST, so that one blot does not
#: decide; the mean chance is at least WELL.
LIKELIER, LEAST, MOST, WELL = 6.0, 0.03, 0.999, 0.7
#: A turned page is read at most so much more poorly: as a share of its ink.
POORER = 0.1

Read = Callable[[Floats32], Reading]
Result = PageReading | DigitqError
#: What reads one page: it yields the model's inputs, float32 [n, 28, 28], and is sent their reading.
PageReader = Generator[Floats32, Reading, Result]

_NOTHING = np.empty((0, SIDE, SIDE), np.float32)


def read_pages(pages: Sequence[Grey], read: Read, thresholds: Mapping[str, float]) -> list[Result]:
    """Read pages, each uint8 [H, W], with ink darker or brighter than the paper.

    The first call of `read` takes the first inputs of all pages, and each later call those of the pages that need more.
    Boxes are in pixels of the page as given. `thresholds` override the defaults of single digits and of pages. A page
    with too many digits has an error as result.
    """
    limits = {**DEFAULT_THRESHOLDS, **PAGE_THRESHOLDS, **thresholds}
    return in_step([_read_page(page, limits) for page in pages], read)


def in_step(readers: Sequence[PageReader], read: Read) -> list[Result]:
    """Run the readers side by side: what all of them yield goes through `read` in one call. Return their results."""
    results: dict[int, Result] = {}
    asked: dict[int, Floats32] = {}

    def go_on(at: int, reading: Reading | None) -> None:
        try:
            asked[at] = readers[at].send(reading)  # type: ignore[arg-type]  # a generator is started with None
        except StopIteration as end:
            results[at] = end.value

    for at in range(len(readers)):
        go_on(at, None)
    while asked:
        inputs, asked = asked, {}
        reading = read(np.concatenate([_NOTHING, *inputs.values()]))
        start = 0
        for at, pixels in inputs.items():
            part = slice(start, start + len(pixels))
            start = part.stop
            go_on(at, Reading(reading.probabilities[part], reading.digitness[part]))
    return [results[at] for at in range(len(readers))]


def _read_page(page: Grey, limits: Mapping[str, float]) -> PageReader:
    """Read a page by lines, or cell by cell if it is a sudoku. Try it turned if little of it can be read."""
    if min(page.shape) < LEAST_SIDE:
        return PageReading(())
    grid = find_grid(page)
    if grid and grid.is_sudoku:
        return (yield from read_sudoku(grid, limits))
    layout = lay_out(page)
    found = page_digits(layout, (yield from _read(layout)), page.shape, limits)
    if found.share < POOR and (quarters := (yield from _quarters(layout))):
        turned = lay_out(page, quarters)
        again = page_digits(turned, (yield from _read(turned)), page.shape, limits)
        if again.share > found.share - POORER:
            layout, found = turned, again
    if (count := _count(found)) > MOST_DIGITS:
        return TooManyDigits(f"The page has {count} digits or more; at most {MOST_DIGITS} are read", limit=MOST_DIGITS)
    reading = PageReading(found.numbers, rotated=90 * layout.quarters)
    return in_cells(reading, grid) if grid else reading


def _read(layout: Layout) -> Generator[Floats32, Reading, Reading]:
    """Read the candidates of a page, and again what is doubtful."""
    return (yield from looked_again(layout, (yield layout.pixels)))


def _count(found: PageDigits) -> int:
    return sum(one.decision != "reject" for number in found.numbers for one in number.digits)


def _quarters(layout: Layout) -> Generator[Floats32, Reading, int]:
    """Return by how many quarters clockwise the page must be turned, judged by some of its marks."""
    sample = layout.sample(SAMPLE)
    if not len(sample):
        return 0
    ways = np.stack([sample] * 4)
    for quarters in (1, 2, 3):  # about the middle of pixel 14, where the centre of mass is
        ways[quarters, :, 1:, 1:] = np.rot90(sample[:, 1:, 1:], -quarters, (1, 2))
    reading = yield ways.reshape(-1, SIDE, SIDE)
    chances = reading.chances.reshape(4, -1)
    limited = chances.clip(LEAST, MOST)
    sums = np.log(limited / (1 - limited)).sum(axis=1)
    best = int(sums.argmax())
    return best if sums[best] >= sums[0] + LIKELIER and chances[best].mean() >= WELL else 0
