"""Makes the numbers of a page from the readings of its candidates: best paths, decisions, gaps between numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from shared.numbers import FoundDigit, FoundNumber
from worker.image.arrays import Floats32
from worker.inference.mlp import Reading
from worker.inference.straight_strokes import are_straight_strokes
from worker.page.candidates import Row
from worker.page.context import Seen, odds_against
from worker.page.layout import Layout
from worker.page.path import best_path

#: `page_accept` and `page_review`: least confidence of an accepted digit, and of one that counts at all. `page_show`:
#: least digitness of what is reported as rejected. The model's card overrides these.
DEFAULT_THRESHOLDS = {"page_accept": 0.99, "page_review": 0.8, "page_show": 0.2}
#: A gap wider than this many digit heights starts a new number: a dash fits in, as in 818-1000.
GAP = 1.5
#: A 0 is round if it is at least this many times as wide as high, and the reverse.
ROUND = 0.85


class PageDigits(NamedTuple):
    """The numbers of a page, and how well it reads."""

    numbers: tuple[FoundNumber, ...]
    #: The share of the ink of all lines that was read, weighted by the confidences; 1 on an empty page.
    share: float


class _Judged(NamedTuple):
    """A digit with its confidence, its decision, and whether it is as plain as a bar or a ring."""

    seen: Seen
    confidence: float
    decision: str
    plain: bool


def page_digits(layout: Layout, reading: Reading, shape: tuple[int, ...], limits: Mapping[str, float]) -> PageDigits:
    """Choose, decide and group the digits of a page of this shape, given the reading of its candidates."""
    rows = _chosen(layout, reading)
    plain, against = _plain(layout, rows), odds_against(layout, rows)
    numbers, read = [], 0.0
    for row, seen, costs, simple in zip(layout.rows, rows, against, plain, strict=True):
        judged = [_judged(*one, limits=limits) for one in zip(seen, costs, simple, strict=True)]
        for group in _numbers(row, judged):
            if len(layout.rows) > 1 and all(one.plain for one in group):  # lines or bubbles of a form, a margin
                group = [one._replace(decision="reject") for one in group]
            shown = [one for one in group if one.decision != "reject" or one.seen.digitness >= limits["page_show"]]
            for one in shown:
                if one.decision != "reject":
                    read += one.confidence * _ink(row, one.seen)
            if shown:
                numbers.append(FoundNumber(tuple(_found(layout, one, shape) for one in shown)))
    ink = sum(part.area for row in layout.rows for part in row.parts)
    return PageDigits(tuple(numbers), read / ink if ink else 1.0)


def _chosen(layout: Layout, reading: Reading) -> list[list[Seen]]:
    """Return the digits of the best path through each row."""
    digits, probability = reading.probabilities.argmax(axis=1), reading.probabilities.max(axis=1)
    rows, at = [], 0
    for row in layout.rows:
        part = slice(at, at + len(row.candidates))
        chances = (probability[part] * reading.digitness[part]).astype(np.float64)
        rows.append(
            [
                Seen(
                    row.candidates[n], int(digits[at + n]), float(reading.digitness[at + n]), float(probability[at + n])
                )
                for n in best_path(row, chances)
            ]
        )
        at = part.stop
    return rows


def _plain(layout: Layout, rows: list[list[Seen]]) -> list[list[bool]]:
    """Tell of each digit whether it is a 1 as straight as print, or a 0 as wide as high.

    These may be a slash, a bracket, a line of a form, or its bubbles.
    """
    place = {id(one): at for at, one in enumerate(one for row in layout.rows for one in row.candidates)}
    every = [one for row in rows for one in row]
    pixels: Floats32 = layout.pixels[[place[id(one.candidate)] for one in every]]
    bars = iter(are_straight_strokes(pixels, np.ones(len(every), np.bool_)).tolist() if every else [])
    return [[_is_plain(one, next(bars)) for one in row] for row in rows]


def _is_plain(one: Seen, bar: bool) -> bool:
    _, _, width, height = one.candidate.box
    return bar if one.digit == 1 else one.digit == 0 and ROUND <= width / height <= 1 / ROUND


def _judged(seen: Seen, cost: float, plain: bool, limits: Mapping[str, float]) -> _Judged:
    """Decide on a digit whose surroundings lower its log odds by the cost."""
    confidence = _lowered(seen.digitness, cost) * seen.probability
    decision = _decision(confidence, limits)
    if decision == "accept" and plain and seen.digit == 1:
        decision = "review"
    return _Judged(seen, confidence, decision, plain)


def _numbers(row: Row, digits: list[_Judged]) -> list[list[_Judged]]:
    """Split the digits of a row where a gap is wide."""
    groups: list[list[_Judged]] = []
    end = -math.inf
    for one in digits:
        left, _, width, _ = one.seen.candidate.box
        if left > end + GAP * row.height:
            groups.append([])
        groups[-1].append(one)
        end = left + width
    return groups


def _ink(row: Row, one: Seen) -> int:
    """Return the area of a digit's ink, in pixels."""
    return sum(part.area for part in row.parts[one.candidate.start : one.candidate.stop])


def _found(layout: Layout, one: _Judged, shape: tuple[int, ...]) -> FoundDigit:
    box = layout.on_page(one.seen.candidate.box, shape)
    return FoundDigit(one.seen.digit, one.confidence, one.decision, box)


def _lowered(chance: float, cost: float) -> float:
    """Return the chance with its log odds lowered by the cost."""
    chance = min(max(chance, 1e-6), 1 - 1e-6)
    return 1 / (1 + math.exp(min(700.0, cost - math.log(chance / (1 - chance)))))


def _decision(confidence: float, limits: Mapping[str, float]) -> str:
    return (
        "accept"
        if confidence >= limits["page_accept"]
        else "review"
        if confidence >= limits["page_review"]
        else "reject"
    )
