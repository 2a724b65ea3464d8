"""The reading of a page: digits with their boxes, the numbers that they form, and a table's cells.

A picture uploaded with `read=numbers` has this beside the fields of a single digit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

#: How a picture is read: as one digit, or as a page of numbers.
Read = Literal["digit", "numbers"]
READS: tuple[Read, ...] = ("digit", "numbers")
#: What `read` may be, for users.
READ_IS = "read is `digit` (one digit in each picture, the default) or `numbers` (every number in it)"
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

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> FoundDigit:
        """Parse the JSON of the API."""
        return cls(body["digit"], body["confidence"], body["decision"], _box(body["box"]))

    def noted(self) -> list[float]:
        """Return [digit, confidence, position in DECISIONS, left, top, width, height] to store."""
        return [int(self.digit), float(f"{self.confidence:.6g}"), DECISIONS.index(self.decision), *map(int, self.box)]

    @classmethod
    def from_noted(cls, row: Sequence[Any]) -> FoundDigit:
        """Parse what `noted` returns."""
        digit, confidence, decision, *box = row
        return cls(digit, confidence, DECISIONS[decision], _box(box))


@dataclass(frozen=True, slots=True)
class FoundNumber:
    """Digits side by side, from left to right; at least one."""

    digits: tuple[FoundDigit, ...]
    #: Whether there is a sign between or beside them, which is no part of the text.
    signs: bool = False

    @property
    def text(self) -> str:
        """The digits that are accepted or in review."""
        return "".join(str(one.digit) for one in self.digits if one.decision != "reject")

    @property
    def confidence(self) -> float:
        """The probability that all digits of the text are right, as if they were independent; 0 without text."""
        if not self.text:
            return 0.0
        return float(f"{math.prod(one.confidence for one in self.digits if one.decision != 'reject'):.6g}")

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
            **({"signs": True} if self.signs else {}),
        }

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> FoundNumber:
        """Parse the JSON of the API."""
        return cls(tuple(map(FoundDigit.from_json, body["digits"])), bool(body.get("signs")))


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
            "boxes": [[list(map(int, box)) for box in row] for row in self.boxes],
        }

    @property
    def lines(self) -> list[str]:
        """The text of each row, `.` for an empty cell; cells are parted by spaces if one holds several digits."""
        between = " " * any(len(text) > 1 for row in self.cells for text in row)
        return [between.join(text or "." for text in row) for row in self.cells]

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> FoundGrid:
        """Parse the JSON of the API."""
        cells = tuple(tuple("" if text == "." else text for text in row) for row in body["cells"])
        return cls(cells, tuple(tuple(map(_box, row)) for row in body["boxes"]))


@dataclass(frozen=True, slots=True)
class PageReading:
    """The reading of one picture: numbers in reading order, and its table, if any."""

    numbers: tuple[FoundNumber, ...] = ()
    grid: FoundGrid | None = None
    #: Degrees that the picture was turned clockwise to be read: 0, 90, 180 or 270. Boxes are those of the upload.
    rotated: int = 0
    warnings: tuple[str, ...] = ()

    @property
    def digits(self) -> list[FoundDigit]:
        """All digits in reading order."""
        return [digit for number in self.numbers for digit in number.digits]

    @property
    def decision(self) -> str:
        """The weakest decision of the digits; `reject` if there is none."""
        return weakest([one.decision for one in self.digits])

    @property
    def rows(self) -> list[list[FoundNumber]]:
        """The numbers of each row of writing: a number goes on with the row of the one before if it is beside it."""
        across = 0 if self.rotated in (90, 270) else 1
        rows: list[list[FoundNumber]] = []
        for number in self.numbers:
            if rows and _beside(rows[-1][-1].box, number.box, across):
                rows[-1].append(number)
            else:
                rows.append([number])
        return rows

    @property
    def lines(self) -> list[str]:
        """The text of each row: of the table if there is one, else the numbers, parted by spaces."""
        if self.grid:
            return self.grid.lines
        texts = (" ".join(number.text for number in row if number.text) for row in self.rows)
        return [text for text in texts if text]

    def to_json(self) -> dict[str, Any]:
        """Return the members of the API's JSON that only a picture read as numbers has."""
        grid = self.grid.to_json() if self.grid else None
        return {"numbers": [one.to_json() for one in self.numbers], "grid": grid, "rotated": self.rotated}

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> PageReading | None:
        """Parse the JSON of a prediction or a result; None if it was not read as numbers."""
        if body.get("numbers") is None:
            return None
        grid = FoundGrid.from_json(body["grid"]) if body.get("grid") else None
        return cls(tuple(map(FoundNumber.from_json, body["numbers"])), grid, body.get("rotated") or 0)

    def noted(self) -> dict[str, Any]:
        """Return the fields to store, compact: a digit takes about thirty bytes. The warnings are stored elsewhere."""
        noted: dict[str, Any] = {"numbers": [[digit.noted() for digit in one.digits] for one in self.numbers]}
        if signs := [at for at, one in enumerate(self.numbers) if one.signs]:
            noted["signs"] = signs
        if self.grid:
            noted["grid"] = {"cells": self.grid.cells, "boxes": self.grid.to_json()["boxes"]}
        if self.rotated:
            noted["rotated"] = int(self.rotated)
        return noted

    @classmethod
    def from_noted(cls, found: Mapping[str, Any]) -> PageReading | None:
        """Parse what `noted` returns; None if the picture was not read as numbers."""
        if "numbers" not in found:
            return None
        signs = set(found.get("signs", ()))
        numbers = tuple(
            FoundNumber(tuple(map(FoundDigit.from_noted, digits)), at in signs)
            for at, digits in enumerate(found["numbers"])
        )
        return cls(numbers, FoundGrid.from_json(found["grid"]) if "grid" in found else None, found.get("rotated", 0))


def known_read(text: str) -> Read | None:
    """Return how pictures are read by this name; None for an unknown one."""
    return text if text in READS else None


def weakest(decisions: Sequence[str]) -> str:
    """Return the weakest of the decisions; `reject` if there is none."""
    return min(decisions, key=DECISIONS.index, default="reject")


def around(boxes: Sequence[Box]) -> Box:
    """Return the box around at least one box."""
    left, top = min(box[0] for box in boxes), min(box[1] for box in boxes)
    right, bottom = max(box[0] + box[2] for box in boxes), max(box[1] + box[3] for box in boxes)
    return left, top, right - left, bottom - top


def _beside(one: Box, other: Box, axis: int) -> bool:
    """Tell whether the boxes' spans along an axis (0 across, 1 down) share half of the shorter one."""
    shared = min(one[axis] + one[axis + 2], other[axis] + other[axis + 2]) - max(one[axis], other[axis])
    return 2 * shared >= min(one[axis + 2], other[axis + 2])


def _box(values: Sequence[int]) -> Box:
    left, top, width, height = values
    return left, top, width, height
