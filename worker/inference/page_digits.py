"""Makes the numbers of a page of the readings of its candidates: the best paths, decisions, and gaps between numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from shared.numbers import FoundDigit, FoundNumber
from worker.image.arrays import Floats32
from worker.inference.mlp import Reading
from worker.inference.straight_strokes import are_straight_strokes
from worker.page.context import Seen, odds_against
from worker.page.layout import Layout
from worker.page.path import best_path

#: `page_accept` and `page_review`: least confidence of an accepted digit, and of one that counts at all. `page_show`:
#: least digitness of what is reported as rejected. The model's card overrides these.
DEFAULT_THRESHOLDS = {"page_accept": 0.97, "page_review": 0.6, "page_show": 0.2}
#: A gap wider than this many digit heights starts a new number: a dash fits in, as in 818-1000.
GAP = 1.5


class PageDigits(NamedTuple):
    """The numbers of a page, and how well it reads."""

    numbers: tuple[FoundNumber, ...]
    #: The share of the ink of all lines that was read, weighted by the confidences; 1 on an empty page.
    share: float


def page_digits(layout: Layout, reading: Reading, shape: tuple[int, ...], limits: Mapping[str, float]) -> PageDigits:
    """Choose, decide and group the digits of a page of this shape, given the reading of its candidates."""
    rows = _chosen(layout, reading)
    straight = _straight(layout, rows)
    against = odds_against(layout, rows)
    numbers, at = [], 0
    read = 0.0
    for row, seen, costs in zip(layout.rows, rows, against, strict=True):
        lone = all(straight[at + n] for n in range(len(seen)))
        found: list[FoundDigit] = []
        end = -math.inf
        for n, (one, cost) in enumerate(zip(seen, costs, strict=True)):
            confidence = _lowered(one.digitness, cost) * one.probability
            decision = _decision(confidence, limits)
            if straight[at + n] and decision != "reject":
                decision = "reject" if lone else "review"
            if decision == "reject" and one.digitness < limits["page_show"]:
                continue
            left, _, width, _ = one.candidate.box
            if found and left > end + GAP * row.height:
                numbers.append(FoundNumber(tuple(found)))
                found = []
            found.append(FoundDigit(one.digit, confidence, decision, layout.on_page(one.candidate.box, shape)))
            end = left + width
            if decision != "reject":
                read += confidence * sum(part.area for part in row.parts[one.candidate.start : one.candidate.stop])
        at += len(seen)
        if found:
            numbers.append(FoundNumber(tuple(found)))
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


def _straight(layout: Layout, rows: list[list[Seen]]) -> list[bool]:
    """Tell of each digit whether it is a 1 that may be a slash, a bracket or a line of a form."""
    place = {id(one): at for at, one in enumerate(one for row in layout.rows for one in row.candidates)}
    seen = [one for row in rows for one in row]
    if not seen:
        return []
    pixels: Floats32 = layout.pixels[[place[id(one.candidate)] for one in seen]]
    straight = are_straight_strokes(pixels, np.ones(len(seen), np.bool_))
    return [bool(bar) and one.digit == 1 for bar, one in zip(straight, seen, strict=True)]


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
