"""Takes the digits out of the cells of a ruled table: straightens the table, removes its lines, tells empty cells."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from worker.image.arrays import Floats32, Grey, Ints, Mask
from worker.image.mnist_format import ink_levels, normalise_strokes, place

#: The shorter side of a typical cell in the straightened table, in pixels: a digit of half its height fills the
#: model's box of 20 pixels.
CELL = 48
#: The straightened table has this margin, in cells: strokes may cross its outer lines.
MARGIN = 0.25
#: Lines are at most this wide, from their middle outwards, in cells; they end where their darkness falls below FADED
#: of its peak.
WIDEST, FADED = 0.11, 0.15
#: Ink is darker than this share of the darkest stroke in its cell, LEAST_INK (255ths of the paper's level), and so many
#: times the paper's noise.
SHARE, LEAST_INK, NOISE = 0.4, 14, 4.0
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
    return Straight(_without_lines(_without_lines(ink, rows).T, columns).T, rows, columns)


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


def _without_lines(ink: Grey, rows: Ints) -> Grey:
    """Remove lines from left to right at about those rows, cell by cell; ink on both sides of a line stays joined."""
    found, reach = ink.copy(), round(WIDEST * CELL) + 2
    for row in rows:
        band = ink[row - reach : row + reach + 1]
        for start in range(0, ink.shape[1], CELL // 2):
            first, last = _line(np.median(band[:, start : start + CELL // 2], axis=1))
            place_ = slice(row - reach + first, row - reach + last), slice(start, start + CELL // 2)
            found[place_] = 0
    return found


def _line(profile: Floats32) -> tuple[int, int]:
    """Return where the line in a profile of darkness across it begins and, one past it, ends."""
    middle = len(profile) // 2
    peak = middle - 3 + int(profile[middle - 3 : middle + 4].argmax())
    faded = profile < FADED * profile[peak]
    before, after = np.flatnonzero(faded[:peak]), np.flatnonzero(faded[peak:])
    return (int(before[-1]) + 1 if before.size else 0), (peak + int(after[0]) if after.size else len(profile))


def digits_of(table: Straight) -> list[list[Digit | None]]:
    """Return the digit in each cell, row by row; None for an empty cell."""
    noise = _noise(table)
    return [
        [_digit(table.ink[top:bottom, left:right], noise) for left, right in zip(table.columns, table.columns[1:])]
        for top, bottom in zip(table.rows, table.rows[1:])
    ]


def _noise(table: Straight) -> float:
    """Return the standard deviation of the paper's darkness."""
    return 3.0


def _digit(ink: Grey, noise: float) -> Digit | None:
    """Return the digit in a cell, uint8 [H, W]."""
    height, width = ink.shape
    soft = cv2.GaussianBlur(ink, (3, 3), 0)
    middle = soft[height // 6 : -(height // 6), width // 6 : -(width // 6)]
    darkest = float(np.sort(middle, axis=None)[-max(8, middle.size // 50)])
    level = max(SHARE * darkest, LEAST_INK, NOISE * noise)
    mask = ink > level
    count, labels, stats, centres = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    inside = (np.abs(centres / (width, height) - 0.5) < 0.35).all(axis=1)
    inside[0] = False
    sizes = np.where(inside, stats[:, 4], 0)
    main = int(sizes.argmax())
    if main == 0 or stats[main, 3] < LEAST_HEIGHT * CELL and stats[main, 2] < LEAST_HEIGHT * CELL:
        return None
    chosen = [part for part in range(1, count) if part == main or (inside[part] and _belongs(stats[part], stats[main]))]
    digit = np.isin(labels, chosen)
    paper = int(np.median(ink[~mask])) if not mask.all() else 0
    return Digit(ink_levels(ink, digit, paper), digit)


def _belongs(part: Ints, main: Ints) -> bool:
    """Tell whether a piece of ink belongs to the digit beside it; both by OpenCV's left, top, width, height, area."""
    if max(part[2], part[3]) < PIECE * CELL:
        return False
    gaps = [max(part[k] - main[k] - main[k + 2], main[k] - part[k] - part[k + 2]) for k in (0, 1)]
    return max(gaps) <= GAP * CELL
