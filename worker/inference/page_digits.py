"""Makes the numbers of a page from the readings of its candidates: best paths, decisions, gaps between numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from shared.numbers import FoundDigit, FoundNumber
from worker.image.arrays import Mask
from worker.inference.mlp import Reading
from worker.inference.straight_strokes import are_straight_strokes
from worker.page.candidates import Candidate, Row
from worker.page.context import confidences
from worker.page.layout import Layout
from worker.page.path import best_paths
from worker.page.surroundings import Seen

#: `page_accept` and `page_review`: least confidence of an accepted digit, and of one that counts at all. `page_show`:
#: least confidence of what is reported as rejected. The model's card overrides these.
DEFAULT_THRESHOLDS = {"page_accept": 0.95, "page_review": 0.5, "page_show": 0.1}
#: A gap wider than this many digit heights starts a new number. A dash in it, as in 818 - 1000, is no part of the gap
#: up to DASH digit heights.
GAP, DASH = 1.5, 0.8
#: A 1 lower than this many digit heights may be a comma.
COMMA = 0.6
#: A 0 is round if it is at least this many times as wide as high, and the reverse.
ROUND = 0.75


class PageDigits(NamedTuple):
    """The numbers of a page, and how well it reads."""

    numbers: tuple[FoundNumber, ...]
    #: The share of the ink of all lines that was read, weighted by the confidences; 1 on an empty page.
    share: float


class _Judged(NamedTuple):
    """A digit with its confidence and its decision."""

    seen: Seen
    confidence: float
    decision: str


def page_digits(layout: Layout, reading: Reading, shape: tuple[int, ...], limits: Mapping[str, float]) -> PageDigits:
    """Choose, decide and group the digits of a page of this shape, given the reading of its candidates."""
    rows = chosen(layout, reading)
    groups: list[tuple[Row, list[_Judged]]] = []
    for row, seen, sure in zip(layout.rows, rows, confidences(layout, rows), strict=True):
        judged = [_Judged(one, chance, _decision(one, chance, limits)) for one, chance in zip(seen, sure, strict=True)]
        groups += [(row, group) for group in _numbers(row, judged)]
    drop = _are_lines_or_bubbles(len(layout.rows), [group for _, group in groups])
    numbers, read = [], 0.0
    for row, group in groups:
        if drop and _all_plain(group):
            group = [one._replace(decision="reject") for one in group]
        read += sum(one.confidence * _ink(row, one.seen) for one in group if one.decision != "reject")
        shown = [one for one in group if one.decision != "reject" or one.confidence >= limits["page_show"]]
        if shown:
            numbers.append(FoundNumber(tuple(_found(layout, one, shape) for one in shown)))
    ink = sum(part.area for row in layout.rows for part in row.parts)
    return PageDigits(tuple(numbers), read / ink if ink else 1.0)


def _all_plain(group: Sequence[_Judged]) -> bool:
    return all(one.seen.plain for one in group)


def _are_lines_or_bubbles(rows: int, groups: Sequence[Sequence[_Judged]]) -> bool:
    """Tell whether the bars and rings that stand alone are lines or bubbles of a form.

    They are if there are several rows, and at least as many of them as of numbers.
    """
    plain = sum(map(_all_plain, groups))
    numbers = sum(not _all_plain(group) and any(one.decision != "reject" for one in group) for group in groups)
    return rows > 1 and plain >= numbers


def chosen(layout: Layout, reading: Reading) -> list[list[Seen]]:
    """Return the digits of the best path through each row."""
    digits, probability = reading.probabilities.argmax(axis=1), reading.probabilities.max(axis=1)
    paths = best_paths(layout.rows, reading.chances)
    every = [at for path in paths for at in path]
    bars: Mask = are_straight_strokes(layout.pixels[every], np.ones(len(every), np.bool_))
    straight = dict(zip(every, bars.tolist(), strict=True))
    rows, start = [], 0
    for row, path in zip(layout.rows, paths, strict=True):
        chosen = [(row.candidates[at - start], at) for at in path]
        seen = [
            Seen(
                one,
                int(digits[at]),
                float(reading.digitness[at]),
                float(probability[at]),
                _is_plain(one, int(digits[at]), straight[at]),
            )
            for one, at in chosen
        ]
        rows.append([one for one in seen if not _is_comma(one, seen, row.height)])
        start += len(row.candidates)
    return rows


def _is_comma(one: Seen, row: Sequence[Seen], height: float) -> bool:
    """Tell whether a small 1 hangs at the foot of the digit before it."""
    left, top, _, high = one.candidate.box
    if one.digit != 1 or high >= COMMA * height:
        return False
    before = [other.candidate.box for other in row if other.candidate.stop <= one.candidate.start]
    if not before or left - before[-1][0] - before[-1][2] > GAP * height:
        return False
    _, upper, _, size = before[-1]
    return size > high and top > upper + size / 2 and top + high > upper + 0.9 * size


def _is_plain(one: Candidate, digit: int, bar: bool) -> bool:
    """Tell whether a digit is a 1 as straight as print, or a 0 as wide as high."""
    _, _, width, height = one.box
    return bar if digit == 1 else digit == 0 and ROUND <= width / height <= 1 / ROUND


def _numbers(row: Row, digits: list[_Judged]) -> list[list[_Judged]]:
    """Split the digits of a row where a gap is wide."""
    groups: list[list[_Judged]] = []
    end, stop = -math.inf, 0
    for one in digits:
        left, _, width, _ = one.seen.candidate.box
        if left > end + GAP * row.height + _dash(row, stop, one.seen.candidate.start):
            groups.append([])
        groups[-1].append(one)
        end, stop = left + width, one.seen.candidate.stop
    return groups


def _dash(row: Row, start: int, stop: int) -> float:
    """Return the width of the dash between two digits, in pixels; 0 if there is anything else, such as both of an =."""
    between = [part.box for part in row.parts[start:stop]]
    if len(between) != 1 or between[0][2] < between[0][3]:
        return 0.0
    return min(float(between[0][2]), DASH * row.height)


def _ink(row: Row, one: Seen) -> int:
    """Return the area of a digit's ink, in pixels."""
    return sum(part.area for part in row.parts[one.candidate.start : one.candidate.stop])


def _found(layout: Layout, one: _Judged, shape: tuple[int, ...]) -> FoundDigit:
    box = layout.on_page(one.seen.candidate.box, shape)
    return FoundDigit(one.seen.digit, one.confidence, one.decision, box)


def _decision(one: Seen, confidence: float, limits: Mapping[str, float]) -> str:
    """Decide on a digit. A straight 1 may be a slash or a line, whatever stands beside it."""
    if confidence < limits["page_review"]:
        return "reject"
    sure = confidence >= limits["page_accept"] and not (one.plain and one.digit == 1)
    return "accept" if sure else "review"
