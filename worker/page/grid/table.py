"""Views a ruled table as if from straight above, and removes its lines."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from shared.numbers import Box
from worker.image.arrays import Floats32, Grey, Ints
from worker.page.opencv import opencv

#: The shorter side of a typical cell in the straightened table, in pixels: a digit of half its height fills the
#: model's box of 20 pixels.
CELL = 48
#: The straightened table has this margin, in cells, for its outer lines.
MARGIN = 0.3
#: A line is looked for this far on both sides of where it was followed, in cells. It is dark along most of a cell's
#: side: the darkness across it is that of the quantile ALONG of SAMPLES. It ends where that falls below FADED of its
#: peak.
REACH, ALONG, SAMPLES, FADED = 0.2, 0.3, 32, 0.15
#: It wavers by that many pixels and is this many times darker in places.
UNSTEADY, GAIN = 2, 1.5
#: Out-of-focus digits are sharpened: the difference to their blur by a Gaussian of BLUR cells is added SHARP times.
BLUR, SHARP = 0.05, 2.0


class Table(NamedTuple):
    """A table as if seen from straight above, without its lines. Ink is in 255ths of the paper's level."""

    #: float32 [H, W], 0 for paper, or where a line was: without grain, and with sharper edges.
    soft: Floats32
    sharp: Floats32
    #: [rows + 1], [columns + 1]: the y and x coordinates of the lines.
    rows: Ints
    columns: Ints
    #: float32 [H, W], twice: the x and y coordinates of each pixel in the picture.
    places: tuple[Floats32, Floats32]

    def box(self, top: int, bottom: int, left: int, right: int) -> Box:
        """Return the box in pixels of the picture around rows top to bottom - 1 and columns left to right - 1."""
        corners = np.ix_([top, bottom - 1], [left, right - 1])
        (x, wide), (y, high) = ((np.floor(one[corners].min()), np.ceil(one[corners].max())) for one in self.places)
        x, y = max(x, 0), max(y, 0)
        return int(x), int(y), int(wide - x) + 1, int(high - y) + 1


def straighten(grey: Grey, crossings: Floats32) -> Table:
    """View the table in uint8 [H, W] whose lines cross at `crossings` [rows + 1, columns + 1, 2] from above."""
    cv = opencv()
    wide = np.linalg.norm(np.diff(crossings, axis=1), axis=2).mean(axis=0)
    high = np.linalg.norm(np.diff(crossings, axis=0), axis=2).mean(axis=1)
    scale = CELL / min(float(np.median(wide)), float(np.median(high)))
    margin = round(MARGIN * CELL)
    rows, columns = (margin + np.rint(scale * np.cumsum([0, *sizes])).astype(np.intp) for sizes in (high, wide))
    places = _places(crossings, rows, columns, margin)
    reduced = min(scale, 1.0)  # first, for sampling single pixels would keep the grain
    small = cv.resize(grey, None, fx=reduced, fy=reduced, interpolation=cv.INTER_AREA) if reduced < 1 else grey
    maps = [reduced * (one + 0.5) - 0.5 for one in places]
    dark = _darkness(cv.remap(small, *maps, cv.INTER_LINEAR, borderMode=cv.BORDER_REPLICATE))
    ink = (dark - np.maximum(_lines(dark, rows, columns), _lines(dark.T, columns, rows).T)).clip(0)
    sharp = ink + np.float32(SHARP) * (ink - cv.GaussianBlur(ink, (0, 0), BLUR * CELL))
    return Table(cv.blur(ink, (3, 3)), sharp, rows, columns, places)


def _places(crossings: Floats32, rows: Ints, columns: Ints, margin: int) -> tuple[Floats32, Floats32]:
    """Return the x and y coordinates in the picture for each pixel of the straightened table."""
    beyond = np.pad(crossings, ((1, 1), (1, 1), (0, 0)), "reflect", reflect_type="odd")
    down, across = np.meshgrid(_numbers(rows, margin), _numbers(columns, margin), indexing="ij")
    x, y = np.moveaxis(opencv().remap(beyond, across, down, opencv().INTER_LINEAR), 2, 0)
    return np.ascontiguousarray(x), np.ascontiguousarray(y)


def _numbers(lines: Ints, margin: int) -> Floats32:
    """Return which line each coordinate of the straightened table has, in fractions; line 1 is the first one."""
    padded = [2 * lines[0] - lines[1], *lines, 2 * lines[-1] - lines[-2]]
    return np.interp(np.arange(lines[-1] + margin + 1), padded, np.arange(len(padded))).astype(np.float32)


def _darkness(flat: Grey) -> Floats32:
    """Return how much darker each pixel is than the paper around it, in 255ths of the paper's level."""
    cv, side = opencv(), CELL // 2 | 1
    paper = cv.blur(cv.morphologyEx(flat, cv.MORPH_CLOSE, np.ones((side, side), np.uint8)), (side, side))
    return np.asarray(255 - cv.divide(flat, cv.max(paper, 1), scale=255), np.float32)


def _lines(dark: Floats32, rows: Ints, columns: Ints) -> Floats32:
    """Return the darkness of the lines from left to right at about those rows, each followed from column to column.

    Ink on the edge of a line is darker than that; a line wavers by UNSTEADY pixels.
    """
    found, reach = np.zeros_like(dark), round(REACH * CELL)
    ends = np.array([0, *columns, dark.shape[1]])
    samples = np.linspace(ends[:-1], ends[1:] - 1, SAMPLES).astype(np.intp)
    for row in rows:
        band = dark[row - reach : row + reach + 1]
        profiles = np.sort(band[:, samples], axis=1)[:, round(ALONG * SAMPLES)]
        for profile, left, right in zip(profiles.T, ends, ends[1:], strict=False):
            found[row - reach : row + reach + 1, left:right] = _line(profile)[:, None]
    return found


def _line(profile: Floats32) -> Floats32:
    """Return the line in a profile of darkness across it: UNSTEADY pixels wider, 0 beside it."""
    nearness = 1 - np.abs(np.arange(len(profile)) - len(profile) // 2) / len(profile)
    peak = int((profile * nearness).argmax())
    faded = profile <= FADED * profile[peak]
    before, after = np.flatnonzero(faded[:peak]), np.flatnonzero(faded[peak:])
    line = profile.copy()
    line[: before[-1] if before.size else 0] = 0
    line[peak + after[0] + 1 if after.size else len(line) :] = 0
    return np.asarray(opencv().dilate(GAIN * line[:, None], np.ones((2 * UNSTEADY + 1, 1)))[:, 0], np.float32)
