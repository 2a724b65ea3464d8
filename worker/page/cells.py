"""Takes the digits out of the cells of a ruled table: straightens the table, removes its lines, tells empty cells."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import cv2
import numpy as np

from worker.image.arrays import Floats32, Floats64, Grey, Ints, Mask
from worker.image.components import grown
from worker.image.mnist_format import normalise_strokes, place

#: The shorter side of a typical cell in the straightened table, in pixels: a digit of half its height fills the
#: model's box of 20 pixels.
CELL = 48
#: The straightened table has this margin, in cells: strokes may cross its outer lines.
MARGIN = 0.3
#: A line is looked for this far on both sides of where it was followed, in cells; it is dark along most of a cell's
#: side: the darkness across it is that of the quantile ALONG. It ends where that falls below FADED of its peak.
REACH, ALONG, FADED = 0.2, 0.3, 0.15
#: Out-of-focus digits are sharpened: the difference to their blur by a Gaussian of BLUR cells is added SHARP times.
BLUR, SHARP = 0.05, 3.0
#: Ink is darker than this share of the darkest stroke in its cell, and than LEAST_INK (255ths of the paper's level).
SHARE, LEAST_INK = 0.4, 14
#: Strokes are at least this dark in their middle: pencil is, the grain of newspaper and what shines through are not.
LEAST_STROKE = 26
#: The model's input is full ink from this quantile of the digit's ink on.
FULL = 0.75
#: A digit is at least this high, in cells; less is a dot or dirt.
LEAST_HEIGHT = 0.25
#: Other pieces of ink belong to a digit if they are at least this long and at most this far from it, in cells.
PIECE, GAP = 0.12, 0.08


class Straight(NamedTuple):
    """A table as if seen from straight above, without its lines."""

    ink: Grey  #: uint8 [H, W]: darkness in 255ths of the paper's level, 0 where a line was
    rows: Ints  #: [rows + 1]: the y coordinates of the lines
    columns: Ints  #: [columns + 1]: the x coordinates of the lines


class Digit(NamedTuple):
    """The ink of a digit in a cell."""

    ink: Floats32  #: float32 [h, w] in [0, 1]: its crop of the straightened table
    mask: Mask  #: bool [h, w]

    def turned(self, quarters: int) -> Floats32:
        """Return the model's input float32 [28, 28] for the digit turned clockwise by that many quarters."""
        ink, mask = (np.ascontiguousarray(np.rot90(one, -quarters)) for one in (self.ink, self.mask))
        return normalise_strokes(place(ink, mask))[0]


def straighten(grey: Grey, crossings: Floats32) -> Straight:
    """View the table with lines crossing at `crossings` [rows + 1, columns + 1, 2] from above, and remove its lines."""
    wide = np.linalg.norm(np.diff(crossings, axis=1), axis=2).mean(axis=0)
    high = np.linalg.norm(np.diff(crossings, axis=0), axis=2).mean(axis=1)
    scale = CELL / float(np.median(np.concatenate([wide, high])))
    if scale < 0.7:  # smaller first: sampling every second pixel would keep the grain
        grey = np.asarray(cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
        crossings = crossings * np.float32(scale)
    margin = round(MARGIN * CELL)
    rows, columns = (margin + np.rint(np.concatenate([[0], sizes.cumsum()]) * scale).astype(np.intp) for sizes in (high, wide))
    flat = cv2.remap(grey, *_places(crossings, rows, columns, margin), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    ink = _darkness(np.asarray(flat, np.uint8))
    lines = _lines(ink, rows, columns) | _lines(ink.T, columns, rows).T
    return Straight(np.where(lines, np.uint8(0), ink), rows, columns)


def _places(crossings: Floats32, rows: Ints, columns: Ints, margin: int) -> tuple[Floats32, Floats32]:
    """Return the x and y coordinates in the picture for each pixel of the straightened table."""
    beyond = np.pad(crossings, ((1, 1), (1, 1), (0, 0)), "reflect", reflect_type="odd")
    steps = [
        np.interp(np.arange(lines[-1] + margin + 1), [2 * lines[0] - lines[1], *lines, 2 * lines[-1] - lines[-2]], np.arange(len(lines) + 2))
        for lines in (rows, columns)
    ]
    down, across = np.meshgrid(*(one.astype(np.float32) for one in steps), indexing="ij")
    x, y = cv2.split(cv2.remap(beyond, across, down, cv2.INTER_LINEAR))
    return np.asarray(x, np.float32), np.asarray(y, np.float32)


def _darkness(flat: Grey) -> Grey:
    """Return how much darker each pixel is than the paper around it, in 255ths of the paper's level."""
    side = CELL // 2 | 1
    paper = cv2.blur(cv2.morphologyEx(flat, cv2.MORPH_CLOSE, np.ones((side, side), np.uint8)), (side, side))
    return np.asarray(255 - cv2.divide(flat, cv2.max(paper, 1), scale=255), np.uint8)


def _lines(ink: Grey, rows: Ints, columns: Ints) -> Mask:
    """Return the pixels of the lines from left to right at about those rows, each followed from column to column."""
    found, reach = np.zeros(ink.shape, np.bool_), round(REACH * CELL)
    for row in rows:
        for start, stop in itertools.pairwise([0, *columns, ink.shape[1]]):
            side = slice(start, stop)
            first, last = _line(np.quantile(ink[row - reach : row + reach + 1, side], ALONG, axis=1))
            found[row - reach + first : row - reach + last, side] = True
    return found


def _line(profile: Floats64) -> tuple[int, int]:
    """Return where the line in a profile of darkness across it begins and, one past it, ends."""
    middle = len(profile) // 2
    nearness = 1 - np.abs(np.arange(len(profile)) - middle) / len(profile)
    peak = int((profile * nearness).argmax())
    faded = profile <= FADED * profile[peak]
    before, after = np.flatnonzero(faded[:peak]), np.flatnonzero(faded[peak:])
    return (int(before[-1]) if before.size else 0), (peak + int(after[0]) + 1 if after.size else len(profile))


def digits_of(table: Straight) -> list[list[Digit | None]]:
    """Return the digit in each cell, row by row; None for an empty cell."""
    ink = table.ink.astype(np.float32)
    sharp = ink + np.float32(SHARP) * (ink - cv2.GaussianBlur(ink, (0, 0), BLUR * CELL))
    soft = cv2.blur(ink, (3, 3))
    return [
        [
            _digit(soft[top:bottom, left:right], sharp[top:bottom, left:right])
            for left, right in itertools.pairwise(table.columns)
        ]
        for top, bottom in itertools.pairwise(table.rows)
    ]


def _digit(soft: Floats32, sharp: Floats32) -> Digit | None:
    """Return the digit in a cell from its ink, float32 [H, W], without grain and sharpened."""
    seen = _parts(soft)
    if seen is None or float(np.median(soft[seen])) < LEAST_STROKE:
        return None
    digit = _parts(sharp)
    if digit is None:
        return None
    full = float(np.quantile(sharp[digit], FULL))
    ink = np.where(grown(digit), sharp / np.float32(full), np.float32(0)).clip(0, 1)
    return Digit(ink, digit)


def _darkest(ink: Floats32) -> float:
    """Return the level of the darkest strokes in the middle of a cell."""
    height, width = ink.shape
    middle = ink[height // 6 : -(height // 6), width // 6 : -(width // 6)]
    return float(np.sort(middle, axis=None)[-max(8, middle.size // 50)])


def _parts(ink: Floats32) -> Mask | None:
    """Return the pixels of the largest piece of ink in the middle of a cell and what belongs to it; None if too small."""
    height, width = ink.shape
    mask = (ink > max(SHARE * _darkest(ink), LEAST_INK)).astype(np.uint8)
    count, labels, stats, centres = cv2.connectedComponentsWithStats(mask, connectivity=8)
    inside = (np.abs(centres / (width, height) - 0.5) < 0.35).all(axis=1)
    inside[0] = False
    main = int(np.where(inside, stats[:, 4], 0).argmax())
    if main == 0 or max(stats[main, 2], stats[main, 3]) < LEAST_HEIGHT * CELL:
        return None
    chosen = [part for part in range(1, count) if part == main or (inside[part] and _belongs(stats[part], stats[main]))]
    return np.asarray(np.isin(labels, chosen))


def _belongs(part: Ints, main: Ints) -> bool:
    """Tell whether a piece of ink belongs to the digit beside it; both by OpenCV's left, top, width, height, area."""
    if max(part[2], part[3]) < PIECE * CELL:
        return False
    gaps = [max(part[k] - main[k] - main[k + 2], main[k] - part[k] - part[k + 2]) for k in (0, 1)]
    return max(gaps) <= GAP * CELL
