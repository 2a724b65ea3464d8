"""Reads every number in uploads: as one digit where that is accepted, otherwise as a page. Pure, without a queue."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from shared.numbers import Box, FoundDigit, FoundGrid, FoundNumber, PageReading
from shared.prediction import Outcome, rounded
from worker.decoding.decode import Page, decode_page, upright_size
from worker.image.arrays import Floats32, Grey
from worker.inference.classify import BUDGET_SECONDS, Classified, Classifier, Pictures
from worker.inference.mlp import Reading
from worker.inference.read_pages import read_pages

#: A batch is closed after pages of this many pixels: a few at full size, which take about a second.
PIXELS_AT_ONCE = 10_000_000
#: Pictures are read as single digits in parts of this many bytes: small ones all at once, photos a few at a time, so
#: that few are read before the batch is closed.
PART_BYTES = 256 * 1024

Result = Outcome | Exception


class Stages(NamedTuple):
    """The time of each stage for a batch, in ms."""

    #: To read each picture as a single digit.
    single_digit: float
    #: To decode the others as pages.
    decode: float
    #: To find digits on them and choose among the candidates.
    page: float
    #: To run the model on all candidates.
    model: float


@dataclass(frozen=True, slots=True)
class NumbersClassifier:
    """A classifier of single digits that also reads pages. Called as `Classifier` is; outcomes have a `page`."""

    digits: Classifier

    def __call__(self, images: Pictures) -> Classified:
        """Read a batch, or as many of its first pictures as there is time for; at least one."""
        return self.staged(images)[0]

    def staged(self, images: Pictures) -> tuple[Classified, Stages]:
        """Do the same; return the time of each stage too."""
        batch = self._as_digits(images)
        start = time.perf_counter()
        read, thresholds = _TimedRead(self.digits), self.digits.model.card.get("thresholds", {})
        greys = [page.grey for _, page in batch.pages.values()]
        found = read_pages(greys, read, thresholds) if greys else []
        for (at, (single, page)), reading in zip(batch.pages.items(), found, strict=True):
            if isinstance(reading, PageReading):
                batch.results[at] = _combined(single, upright(reading, page), page.size)
            else:
                batch.results[at] = reading
        page_ms = (time.perf_counter() - start) * 1000 - read.ms
        stages = Stages(batch.preprocess_ms + batch.inference_ms, batch.decode_ms, page_ms, read.ms)
        spent = batch.preprocess_ms + batch.decode_ms + page_ms, batch.inference_ms + read.ms
        return Classified(batch.results, *spent), stages

    def _as_digits(self, images: Pictures) -> _Batch:
        """Read pictures as single digits, and decode those that are none, as far as there is time."""
        batch, start = _Batch(), time.perf_counter()
        for part in _parts(images):
            single = self.digits(part)
            batch.preprocess_ms += single.preprocess_ms
            batch.inference_ms += single.inference_ms
            began = time.perf_counter()
            for image, one in zip(part, single.results, strict=False):
                batch.add(image, one, self.digits.max_pixels)
                if batch.pixels > PIXELS_AT_ONCE:
                    return batch
            batch.decode_ms += (time.perf_counter() - began) * 1000
            if len(single.results) < len(part) or time.perf_counter() - start > BUDGET_SECONDS:
                break
        return batch


@dataclass(slots=True)
class _Batch:
    """The results of the first pictures of a batch, and the pages among them that are still to be read."""

    results: list[Result] = field(default_factory=list)
    #: By position: what the picture is as a single digit, and its page.
    pages: dict[int, tuple[Outcome, Page]] = field(default_factory=dict)
    #: Of all pages.
    pixels: int = 0
    preprocess_ms: float = 0.0
    inference_ms: float = 0.0
    decode_ms: float = 0.0

    def add(self, image: bytes | Grey, one: Result, max_pixels: int) -> None:
        """Add a picture that was read as a single digit."""
        try:
            if isinstance(one, Outcome) and one.decision == "accept":
                one = _as_number(one, (0, 0, *upright_size(image)))
            elif isinstance(one, Outcome):
                page = decode_page(image, max_pixels=max_pixels)
                self.pages[len(self.results)] = one, page
                self.pixels += page.grey.size
        except MemoryError:
            raise
        except Exception as error:  # as in `Classifier`: the others are not affected
            one = error
        self.results.append(one)


def _parts(images: Pictures) -> Iterator[Pictures]:
    """Yield parts of a batch of about PART_BYTES."""
    first = size = 0
    for at, image in enumerate(images, 1):
        size += len(image) if isinstance(image, bytes) else image.size
        if size >= PART_BYTES or at == len(images):
            yield images[first:at]
            first, size = at, 0


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
        replace(number, digits=tuple(replace(digit, box=scaled(digit.box)) for digit in number.digits))
        for number in found.numbers
    )
    boxes = tuple(tuple(map(scaled, row)) for row in found.grid.boxes) if found.grid else ()
    return replace(found, numbers=numbers, grid=FoundGrid(found.grid.cells, boxes) if found.grid else None)


def _combined(single: Outcome, page: PageReading, size: tuple[int, int]) -> Outcome:
    """Return the outcome for a picture that is not certainly one digit."""
    read = [digit for digit in page.digits if digit.decision != "reject"]
    signs = ("signs_left_out",) * any(number.signs for number in page.numbers)
    if single.decision != "reject" and len(read) <= 1:
        found = _as_number(single, read[0].box if read else (0, 0, *size), bool(signs))
        return replace(found, warnings=(*found.warnings, *signs))
    if not read:
        reason = "no_ink" if single.reason == "no_ink" else "not_a_digit"
        noticed = [name for name in single.warnings if name != "several_digits"]
        warnings = tuple(dict.fromkeys((*noticed, *page.warnings)))
        return Outcome(None, None, None, "reject", warnings, b"", reason, single.digitness, page)
    unsure = None if page.decision == "accept" else "low_confidence"
    digit, confidence = (int(read[0].digit), float(read[0].confidence)) if len(read) == 1 else (None, None)
    warnings = (*page.warnings, *signs, *(name for name in single.warnings if name == "several_frames"))
    return Outcome(digit, confidence, None, page.decision, warnings, b"", unsure, page=page)


def _as_number(single: Outcome, box: Box, signs: bool = False) -> Outcome:
    """Return the outcome for a single digit, as the only one of one number."""
    assert single.digit is not None and single.confidence is not None
    digit = FoundDigit(single.digit, rounded(single.confidence) or 0.0, single.decision, box)
    return replace(single, page=PageReading((FoundNumber((digit,), signs),)))
