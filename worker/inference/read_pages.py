"""Reads the numbers on pages. A stand-in: ink that hangs together is a digit, and all digits are one number."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from shared.errors import DigitqError
from shared.numbers import FoundDigit, FoundNumber, PageReading
from worker.image.arrays import Floats32, Grey
from worker.image.components import bounding_boxes, components
from worker.image.mnist_format import ink_levels, normalise_strokes, place
from worker.image.threshold import bright_ink, otsu
from worker.inference.decision import DEFAULT_THRESHOLDS, decide
from worker.inference.mlp import Reading

#: Components with a smaller height, in pixels, are specks.
LEAST_HEIGHT = 8
#: Components kept on a page, the highest first.
MOST = 100

Boxes = list[tuple[int, int, int, int]]


def read_pages(
    pages: Sequence[Grey], read: Callable[[Floats32], Reading], thresholds: Mapping[str, float]
) -> list[PageReading | DigitqError]:
    """Read pages uint8 [H, W]; boxes are in pixels of the page. All candidates go to `read` in one call."""
    found = [_candidates(page) for page in pages]
    pixels = [pixels for _, inputs in found for pixels in inputs]
    reading = read(np.stack(pixels) if pixels else np.empty((0, 28, 28), np.float32))
    limits, at = {**DEFAULT_THRESHOLDS, **thresholds}, 0
    readings: list[PageReading | DigitqError] = []
    for boxes, inputs in found:
        rows = slice(at, at + len(inputs))
        readings.append(_reading(boxes, reading.probabilities[rows], reading.digitness[rows], limits))
        at += len(inputs)
    return readings


def _candidates(page: Grey) -> tuple[Boxes, list[Floats32]]:
    """Return the boxes of the components from left to right, and each in MNIST's format."""
    if min(page.shape) < LEAST_HEIGHT:
        return [], []
    bright, _ = bright_ink(page)
    split = otsu(bright)
    labels, count = components(bright > split.threshold)
    if not count:
        return [], []
    (tops, lefts), (bottoms, rights) = bounding_boxes(labels, count)
    heights = bottoms - tops
    kept = [int(part) for part in np.argsort(-heights)[:MOST] if heights[part] >= max(LEAST_HEIGHT, heights.max() / 3)]
    boxes: Boxes = []
    inputs = []
    for part in sorted(kept, key=lambda part: int(lefts[part])):
        top, left, bottom, right = (int(sides[part]) for sides in (tops, lefts, bottoms, rights))
        mask = labels[top:bottom, left:right] == part + 1
        ink = ink_levels(bright[top:bottom, left:right], mask, split.paper)
        inputs.append(normalise_strokes(place(ink, mask))[0])
        boxes.append((left, top, right - left, bottom - top))
    return boxes, inputs


def _reading(boxes: Boxes, probabilities: Floats32, digitness: Floats32, limits: Mapping[str, float]) -> PageReading:
    digits = []
    for box, shares, is_digit in zip(boxes, probabilities, digitness.tolist(), strict=True):
        digit = int(shares.argmax())
        confidence = float(shares[digit])
        decision, reason = decide(confidence, is_digit, (), limits)
        if reason != "not_a_digit":
            digits.append(FoundDigit(digit, confidence, decision, box))
    return PageReading((FoundNumber(tuple(digits)),) if digits else ())
