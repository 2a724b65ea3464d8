"""Sheets of numbers before they are photographed: rows, equations, words, tables and sudokus on paper of any ruling."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.training.drawing.letters import Picture
from worker.training.pages.marks import SOFT, Hand, Ink

#: The kinds of sheets, and how often each is written.
KINDS = {"row": 3, "rows": 3, "equations": 3, "mixed": 4, "letters": 4, "form": 2, "table": 2, "sudoku": 3}
#: Gaps between neighbours, in heights of digits, from ink to ink.
GAPS = {"apart": (0.12, 0.5), "close": (0.02, 0.12), "touching": (-0.14, 0.04)}


@dataclass
class Sheet:
    """Paper while it is written on: coverage by ink uint8 [H, W], the layers, and the ruling's coverage."""

    ink: Picture
    layers: NDArray[np.int32]
    ruling: Picture
    marks: list[tuple[Ink, int, bool]] = field(default_factory=list)
    lines: dict[int, str] = field(default_factory=lambda: defaultdict(str))

    @classmethod
    def blank(cls, height: int, width: int) -> Sheet:
        """An empty sheet."""
        empty = np.zeros((height, width), np.uint8)
        return cls(empty, np.zeros((2, height, width), np.int32), empty.copy())

    def put(self, ink: Ink, x: int, y: int, row: int, printed: bool) -> None:
        """Put a mark with its upper left corner at x, y; what does not fit is left out."""
        height, width = ink.picture.shape
        if x < 0 or y < 0 or x + width > self.ink.shape[1] or y + height > self.ink.shape[0]:
            return
        if not (ink.picture > SOFT).any():
            return
        place = np.s_[y : y + height, x : x + width]
        np.maximum(self.ink[place], ink.picture, out=self.ink[place])
        self.layers[len(self.marks) % 2][place][ink.picture > SOFT] = len(self.marks) + 1
        self.marks.append((ink, row, printed))
        self.lines[row] += ink.text if ink.kind == "digit" else ""


def written(kind: str, hand: Hand, rng: np.random.Generator) -> Sheet:
    """Write a sheet of one of `KINDS`."""
    return {"table": _table, "sudoku": _sudoku}.get(kind, _rows)(kind, hand, rng)


def _rows(kind: str, hand: Hand, rng: np.random.Generator) -> Sheet:
    """One row or several, of numbers, equations or words."""
    rows = 1 if kind == "row" else int(rng.integers(2, 7))
    pitch = hand.height * rng.uniform(1.4, 2.6)
    width = min(900, int(hand.height * rng.uniform(6, 22)))
    sheet = Sheet.blank(int((rows + 1) * pitch), width)
    style = str(rng.choice(list(GAPS), p=[0.4, 0.3, 0.3]))
    rule(sheet, hand, pitch, rng)
    for row in range(rows):
        x = int(hand.height * rng.uniform(0.3, 1.2))
        _row(sheet, _tokens(kind, hand, rng), (x, int((row + 0.7) * pitch)), row, hand, style, rng)
    return sheet


def _tokens(kind: str, hand: Hand, rng: np.random.Generator) -> list[Ink | None]:
    """The marks of a row, None for a space."""
    tokens: list[Ink | None] = []
    length = int(rng.integers(2, 13)) if kind == "row" else 24
    while len(tokens) < length:
        number: list[Ink | None] = [hand.digit(rng) for _ in range(int(rng.integers(1, 7)))]
        dice = rng.random()
        if kind == "form":
            question = [*[hand.letter(rng) for _ in range(int(rng.integers(2, 7)))], None]
            bubbles = [mark for _ in range(int(rng.integers(2, 6))) for mark in (hand.bubble(rng), None)]
            tokens += [*number[:2], None, *question, *bubbles]
        elif kind == "equations":
            power = [hand.digit(rng, scale=0.55)._replace(top=-0.2)] if dice < 0.3 else []
            between = hand.letter(rng) if dice > 0.8 else hand.sign(rng)
            tokens += [*number[:3], *power, None, between, None]
        elif kind == "letters" or (kind == "mixed" and dice < 0.6):
            word: list[Ink | None] = [hand.letter(rng) for _ in range(int(rng.integers(1, 9)))]
            tokens += [*word, *([hand.sign(rng)] if dice < 0.2 else []), None]
        else:
            tokens += [*number, *([hand.sign(rng, str(rng.choice(list(".,:-/"))))] if dice < 0.15 else []), None]
    return tokens[:length]


def _row(
    sheet: Sheet, tokens: Sequence[Ink | None], at: tuple[int, int], row: int, hand: Hand, style: str,
    rng: np.random.Generator,
) -> None:  # fmt: skip
    """Set marks side by side from `at`, the x and y of the upper left corner; gaps are from ink to ink."""
    x, y = at
    edge = np.full(len(sheet.ink), x, np.float64)  # where the ink of each row of pixels ends
    right = x
    for token in tokens:
        if token is None:
            right += int(hand.height * rng.uniform(0.3, 1.1))
            edge[:] = right
            continue
        top = max(0, y + round(token.top * hand.height))
        rows = np.s_[top : top + token.picture.shape[0]]
        mask = token.picture > SOFT
        if not mask.any() or rows.stop > len(edge):
            continue
        inked = mask.any(axis=1)
        gap = hand.height * rng.uniform(*GAPS[style])
        x = int(max((edge[rows] - mask.argmax(axis=1))[inked].max() + gap, right - 0.35 * hand.height, 0))
        sheet.put(token, x, top, row, hand.font is not None)
        ends = x + mask.shape[1] - mask[:, ::-1].argmax(axis=1)
        edge[rows][inked] = np.maximum(edge[rows], ends)[inked]
        # A mark also keeps off what is a little above or below it.
        edge = np.maximum(edge, cv2.dilate(edge[:, None], np.ones((5, 1)))[:, 0] - 0.1 * hand.height)
        right = max(right, x + mask.shape[1])


def rule(sheet: Sheet, hand: Hand, pitch: float, rng: np.random.Generator) -> None:
    """Rule or square the paper, or leave it blank."""
    dice, level, thick = rng.random(), int(rng.uniform(25, 150)), int(rng.integers(1, 3))
    if dice < 0.5:
        return
    step = pitch if dice < 0.75 else hand.height * rng.uniform(0.45, 1.3)
    for y in np.arange(0.7 * pitch + hand.height * rng.uniform(0.9, 1.2), len(sheet.ruling), step):
        sheet.ruling[int(y) : int(y) + thick] = level
    if dice >= 0.75:
        for x in np.arange(rng.uniform(0, step), sheet.ruling.shape[1], step):
            sheet.ruling[:, int(x) : int(x) + thick] = level


def _table(_: str, hand: Hand, rng: np.random.Generator) -> Sheet:
    """A ruled table of numbers."""
    rows, columns, digits = (int(rng.integers(low, high)) for low, high in ((2, 7), (2, 6), (1, 4)))
    down, across = hand.height * rng.uniform(1.4, 2.2), hand.height * (digits * rng.uniform(0.8, 1.1) + 0.8)
    sheet = _squares(rows, columns, down, across, hand, rng)
    for row in range(rows):
        for column in range(columns):
            if rng.random() < 0.1:
                continue
            x = hand.height * (0.7 + rng.uniform(0.1, 0.5)) + column * across
            y = 0.7 * hand.height + row * down + (down - hand.height) * rng.uniform(0.25, 0.75)
            number = [hand.digit(rng) for _ in range(int(rng.integers(1, digits + 1)))]
            _row(sheet, number, (int(x), int(y)), row, hand, str(rng.choice(["apart", "close"])), rng)
    return sheet


def _sudoku(_: str, hand: Hand, rng: np.random.Generator) -> Sheet:
    """A sudoku, printed or written, or printed with written digits in some of the other cells."""
    cell = hand.height * rng.uniform(1.25, 2.2)
    sheet = _squares(9, 9, cell, cell, hand, rng, every=3)
    pen, labels = replace(hand, font=None), np.unique(hand.labels[hand.labels > 0])
    printed, written = rng.uniform(0.2, 0.45), rng.choice([0.0, rng.uniform(0.1, 0.9)])
    for row in range(9):
        for column in range(9):
            dice = rng.random()
            if dice > printed and rng.random() > written:
                sheet.lines[row] += "."
                continue
            writer = hand if dice <= printed else pen
            mark = writer.digit(rng, int(rng.choice(labels)))
            height, width = mark.picture.shape
            shake = 0.03 if writer.font else 0.12
            middle = 0.7 * hand.height + (np.array([row, column]) + 0.5 + rng.normal(0, shake, 2)) * cell
            top, left = (int(at - length / 2) for at, length in zip(middle, (height, width), strict=True))
            sheet.put(mark, left, top, row, writer.font is not None)
    return sheet


def _squares(
    rows: int, columns: int, down: float, across: float, hand: Hand, rng: np.random.Generator, every: int = 0
) -> Sheet:
    """A sheet with a grid of lines, of which each one of `every` is thick; the first are 0.7 digits from the edge."""
    margin = 0.7 * hand.height
    sheet = Sheet.blank(int(rows * down + 2 * margin), int(columns * across + 2 * margin))
    thin = max(1, round(hand.height * rng.uniform(0.02, 0.1)))
    level = int(rng.uniform(70, 255))
    for picture, count, step in ((sheet.ruling, rows, down), (sheet.ruling.T, columns, across)):
        length = int(picture.shape[1] - 2 * margin)
        for line in range(count + 1):
            thick = thin * (2 if every and line % every == 0 else 1)
            at = int(margin + line * step - thick / 2)
            picture[at : at + thick, int(margin) : int(margin) + length + thick] = level
    return sheet
