"""Reads every number in uploads: as one digit where that is accepted, otherwise as a page. Pure, without a queue."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from shared.numbers import Box, FoundDigit, FoundGrid, FoundNumber, PageReading
from shared.prediction import Outcome, rounded
from worker.decoding.decode import Page, decode_page, upright_size
from worker.image.arrays import Floats32
from worker.inference.classify import BUDGET_SECONDS, Classified, Classifier, Pictures
from worker.inference.mlp import Reading
from worker.inference.read_pages import read_pages

#: A batch is closed after pages of this many pixels: a few at full size, which take about a second.
PIXELS_AT_ONCE = 10_000_000

Result = Outcome | Exception


@dataclass(frozen=True, slots=True)
class NumbersClassifier:
    """A classifier of single digits that also reads pages. Called as `Classifier` is; outcomes have a `page`."""

    digits: Classifier

    def __call__(self, images: Pictures) -> Classified:
        """Read a batch, or as many of its first pictures as there is time for; at least one."""
        single = self.digits(images)
        start = time.perf_counter()
        results, pages = self._pages(images, single.results)
        read, thresholds = _TimedRead(self.digits), self.digits.model.card.get("thresholds", {})
        found = read_pages([page.grey for page in pages.values()], read, thresholds)
        for (at, page), reading in zip(pages.items(), found, strict=True):
            first = single.results[at]
            assert isinstance(first, Outcome)
            if isinstance(reading, PageReading):
                results[at] = _combined(first, upright(reading, page), page.size)
            else:
                results[at] = reading
        spent = (time.perf_counter() - start) * 1000
        return Classified(results, single.preprocess_ms + spent - read.ms, single.inference_ms + read.ms)

    def _pages(self, images: Pictures, single: list[Result]) -> tuple[list[Result], dict[int, Page]]:
        """Return the results of the pictures that there is time for, and by position the pages still to be read."""
        start, pixels = time.perf_counter(), 0
        results: list[Result] = []
        pages: dict[int, Page] = {}
        for image, one in zip(images, single, strict=False):
            try:
                if isinstance(one, Outcome) and one.decision == "accept":
                    one = _as_number(one, (0, 0, *upright_size(image)))
                elif isinstance(one, Outcome):
                    pages[len(results)] = page = decode_page(image, max_pixels=self.digits.max_pixels)
                    pixels += page.grey.size
            except MemoryError:
                raise
            except Exception as error:  # as in `Classifier`: the others are not affected
                one = error
            results.append(one)
            if pixels > PIXELS_AT_ONCE or time.perf_counter() - start > BUDGET_SECONDS:
                break
        return results, pages


class _TimedRead:
    """The model's `read`, and the time that it took, in ms."""

    def __init__(self, digits: Classifier) -> None:
        self._model, self.ms = digits.model, 0.0

    def __call__(self, pixels: Floats32) -> Reading:
        start = time.perf_counter()
        try:
            return self._model.read(pixels)
        finally:
            self.ms += (time.perf_counter() - start) * 1000


def upright(found: PageReading, page: Page) -> PageReading:
    """Return a reading with its boxes in pixels of the upright upload instead of the page's."""
    height, width = page.grey.shape
    across, down = page.size[0] / width, page.size[1] / height
    if across == down == 1:
        return found

    def scaled(box: Box) -> Box:
        left, top = round(box[0] * across), round(box[1] * down)
        right, bottom = round((box[0] + box[2]) * across), round((box[1] + box[3]) * down)
        return left, top, right - left, bottom - top

    numbers = tuple(
        FoundNumber(tuple(replace(digit, box=scaled(digit.box)) for digit in number.digits)) for number in found.numbers
    )
    boxes = tuple(tuple(map(scaled, row)) for row in found.grid.boxes) if found.grid else ()
    return replace(found, numbers=numbers, grid=FoundGrid(found.grid.cells, boxes) if found.grid else None)


def _combined(single: Outcome, page: PageReading, size: tuple[int, int]) -> Outcome:
    """Return the outcome for a picture that is not certainly one digit."""
    read = [digit for digit in page.digits if digit.decision != "reject"]
    if single.decision != "reject" and len(read) <= 1:
        return _as_number(single, read[0].box if read else (0, 0, *size))
    if not read:
        reason = "no_ink" if single.reason == "no_ink" else "not_a_digit"
        noticed = [name for name in single.warnings if name != "several_digits"]
        warnings = tuple(dict.fromkeys((*noticed, *page.warnings)))
        return Outcome(None, None, None, "reject", warnings, b"", reason, single.digitness, page)
    unsure = None if page.decision == "accept" else "low_confidence"
    digit, confidence = (read[0].digit, read[0].confidence) if len(read) == 1 else (None, None)
    return Outcome(digit, confidence, None, page.decision, page.warnings, b"", unsure, page=page)


def _as_number(single: Outcome, box: Box) -> Outcome:
    """Return the outcome for a single digit, as the only one of one number."""
    assert single.digit is not None and single.confidence is not None
    digit = FoundDigit(single.digit, rounded(single.confidence) or 0.0, single.decision, box)
    return replace(single, page=PageReading((FoundNumber((digit,)),)))
