"""Scores the readings of pages of numbers against their truth. Pure functions of text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from shared.numbers import FoundGrid, PageReading

#: Kinds of ink that nobody wrote by hand.
NOT_HANDWRITTEN = ("composite", "printed")
NEGATIVE = "negative"


@dataclass(frozen=True, slots=True)
class Truth:
    """The true content of a page."""

    path: str
    category: str
    #: The digits of each row of writing; of a table with `.` for an empty cell.
    lines: tuple[str, ...]
    ink: str = ""
    #: Whether the digits lie around without an order.
    unordered: bool = False

    @property
    def digits(self) -> str:
        """All digits in reading order."""
        return "".join(filter(str.isdigit, "".join(self.lines)))

    @property
    def handwritten(self) -> bool:
        """True if people wrote the digits."""
        return bool(self.digits) and self.ink not in NOT_HANDWRITTEN

    @property
    def is_nine_by_nine(self) -> bool:
        """True for a table of nine rows and nine columns."""
        return len(self.lines) == 9 and all(len(line) == 9 for line in self.lines)


@dataclass(frozen=True, slots=True)
class Score:
    """The counts of one page."""

    truth: Truth
    #: Whether every row is as written.
    right: bool
    #: Digits found, and those of them that are on the page.
    found: int
    matched: int
    #: The same of the digits that were accepted.
    accepted: int
    accepted_right: int
    #: Share of the 81 cells that is right; None unless a table of this size was found.
    cells: float | None


def score(truth: Truth, page: PageReading | None) -> Score:
    """Score a page; None is one that could not be read, as if nothing was found."""
    page = page or PageReading()
    found = [digit for digit in page.digits if digit.decision != "reject"]
    text = "".join(str(digit.digit) for digit in found)
    if truth.unordered:
        left = Counter(truth.digits)
        hits = [_take(left, one) for one in text]
        right = sorted(truth.digits) == sorted(text)
    else:
        hits = matches(truth.digits, text)
        right = _rows(truth.lines) == _rows(page.lines)
    sure = [hit for hit, digit in zip(hits, found, strict=True) if digit.decision == "accept"]
    cells = _cells(truth, page.grid) if truth.is_nine_by_nine and page.grid else None
    right = right and cells in (None, 1)
    return Score(truth, right, len(found), sum(hits), len(sure), sum(sure), cells)


def matches(true: str, found: str) -> list[bool]:
    """Tell which of the digits found are those on the page, by a shortest edit distance with the most matches."""
    # costs[i][j]: (edits, -matches) from the first i true digits to the first j found ones.
    costs = [[(j, 0) for j in range(len(found) + 1)]]
    for i, digit in enumerate(true, 1):
        row = [(i, 0)]
        for j, other in enumerate(found, 1):
            (edits, hits), above, before = costs[-1][j - 1], costs[-1][j], row[-1]
            aligned = (edits, hits - 1) if digit == other else (edits + 1, hits)
            row.append(min(aligned, (above[0] + 1, above[1]), (before[0] + 1, before[1])))
        costs.append(row)
    right, i, j = [False] * len(found), len(true), len(found)
    while i and j:
        (edits, hits), here = costs[i - 1][j - 1], costs[i][j]
        if true[i - 1] == found[j - 1] and here == (edits, hits - 1):
            right[j - 1], i, j = True, i - 1, j - 1
        elif here == (edits + 1, hits):
            i, j = i - 1, j - 1
        elif here == (costs[i - 1][j][0] + 1, costs[i - 1][j][1]):
            i -= 1
        else:
            j -= 1
    return right


def f1(scores: Iterable[Score]) -> float:
    """Return the harmonic mean of precision and recall over the digits of all pages; 0 without any."""
    scores = list(scores)
    both = sum(one.found + len(one.truth.digits) for one in scores)
    return 2 * sum(one.matched for one in scores) / both if both else 0.0


def _take(left: Counter[str], digit: str) -> bool:
    left[digit] -= 1
    return left[digit] >= 0


def _rows(lines: Sequence[str]) -> list[str]:
    """Return the digits of each row that has any."""
    return [digits for line in lines if (digits := "".join(filter(str.isdigit, line)))]


def _cells(truth: Truth, grid: FoundGrid) -> float | None:
    if len(grid.cells) != 9 or any(len(row) != 9 for row in grid.cells):
        return None
    pairs = [pair for line, row in zip(truth.lines, grid.cells, strict=True) for pair in zip(line, row, strict=True)]
    return sum((text or ".") == cell for cell, text in pairs) / len(pairs)
