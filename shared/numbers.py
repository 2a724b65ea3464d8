"""What a page with numbers says: digits with their boxes, the numbers that they form, and a table's cells.

A picture uploaded with `read=numbers` has this beside the fields of a single digit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

#: How a picture is read: as one digit, or as a page of numbers.
Read = Literal["digit", "numbers"]
READS: tuple[Read, ...] = ("digit", "numbers")
#: Left, top, width and height in pixels of the upright upload.
Box = tuple[int, int, int, int]
#: Decisions from the weakest to the strongest.
DECISIONS = ("reject", "review", "accept")


@dataclass(frozen=True, slots=True)
class FoundDigit:
    """A digit on a page, or what looks like one if its decision is `reject`."""

    digit: int
    confidence: float
    decision: str
    box: Box

    def to_json(self) -> dict[str, Any]:
        """Return the JSON of the API."""
        return {"digit": self.digit, "confidence": self.confidence, "decision": self.decision, "box": list(self.box)}


@dataclass(frozen=True, slots=True)
class FoundNumber:
    """Digits side by side, from left to right; at least one."""

    digits: tuple[FoundDigit, ...]

    @property
    def text(self) -> str:
        """The digits that are accepted or in review."""
        return "".join(str(one.digit) for one in self.digits if one.decision != "reject")

    @property
    def confidence(self) -> float:
        """The probability that all digits of the text are right, as if they were independent."""
        return math.prod(one.confidence for one in self.digits if one.decision != "reject")

    @property
    def decision(self) -> str:
        """The weakest decision of the digits."""
        return weakest([one.decision for one in self.digits])

    @property
    def box(self) -> Box:
        """The box around the digits."""
        return around([one.box for one in self.digits])

    def to_json(self) -> dict[str, Any]:
        """Return the JSON of the API."""
        return {
            "text": self.text,
            "confidence": self.confidence,
            "decision": self.decision,
            "box": list(self.box),
            "digits": [one.to_json() for one in self.digits],
        }


@dataclass(frozen=True, slots=True)
class FoundGrid:
    """A ruled table: the text of each cell, "" for an empty one, and its box; row by row."""

    cells: tuple[tuple[str, ...], ...]
    boxes: tuple[tuple[Box, ...], ...]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON of the API: a string a row, `.` for an empty cell; lists if a cell holds several digits."""
        single = all(len(text) <= 1 for row in self.cells for text in row)
        return {
            "rows": len(self.cells),
            "columns": len(self.cells[0]),
            "cells": ["".join(text or "." for text in row) if single else list(row) for row in self.cells],
            "boxes": [[list(box) for box in row] for row in self.boxes],
        }


@dataclass(frozen=True, slots=True)
class PageReading:
    """What was read from one picture: numbers in reading order, and its table, if any."""

    numbers: tuple[FoundNumber, ...] = ()
    grid: FoundGrid | None = None
    #: Degrees that the picture was turned clockwise to be read: 0, 90, 180 or 270. Boxes are those of the upload.
    rotated: int = 0
    warnings: tuple[str, ...] = ()

    @property
    def digits(self) -> list[FoundDigit]:
        """All digits in reading order."""
        return [digit for number in self.numbers for digit in number.digits]


def weakest(decisions: Sequence[str]) -> str:
    """Return the weakest of the decisions; `reject` if there is none."""
    return min(decisions, key=DECISIONS.index, default="reject")


def around(boxes: Sequence[Box]) -> Box:
    """Return the box around at least one box."""
    left, top = min(box[0] for box in boxes), min(box[1] for box in boxes)
    right, bottom = max(box[0] + box[2] for box in boxes), max(box[1] + box[3] for box in boxes)
    return left, top, right - left, bottom - top
