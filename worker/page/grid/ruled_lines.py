"""Follows the ruled lines across a table that is seen from straight above, also where curved paper bends them."""

from __future__ import annotations

import numpy as np

from worker.image.arrays import Floats32, Grey, Ints, Mask
from worker.page.opencv import opencv

#: Lines are followed in steps of this many pixels, and may move this many pixels aside in each.
STEP, ASIDE = 8, 3
#: A pixel aside costs this much of a step's evidence, two cost four times that: lines are nearly straight.
BEND = 0.05
#: Lines are thinner than this many pixels, and darkness is averaged over LONG pixels along them. Digits may be as near
#: to a line thinner than THIN pixels.
THICK, THIN, LONG = 11, 5, 11
#: A line is this many times darker than the noise of the paper, and at least this dark (255ths of the paper's level).
CLEAR, LEAST_DARK = 2.5, 5.0
#: The ink of a line is between half and this many times as dark as its median.
ALIKE = 1.6
#: A path may be a line if it shows along this share of its way.
SHOWN = 0.5
#: Shorter stretches, in steps, are no line: a row of digits has them.
STRETCH = 9
#: A black line has this much more evidence than a pale one.
DARKER = 0.5
#: Lines nearer than this many pixels are one.
NEAR = 9


def evidence(flat: Grey) -> Floats32:
    """Return the evidence for a line from left to right at each row of every STEP-th column: 0 none, 1 or more a line.

    That is the darkness along a stretch of LONG pixels, less that on the darker side THICK or THIN pixels off: what
    leaves more. DARKER is for the middle of a line, and for the frame of a table beside the fold or edge of the paper.
    """
    cv = opencv()
    along = cv.blur(flat.astype(np.float32), (LONG, 3), borderType=cv.BORDER_REPLICATE)[:, STEP // 2 :: STEP]
    thick = _above(along, THICK)
    ridge = np.maximum(thick, _above(along, THIN))
    noise = float(np.quantile(np.abs(thick), 0.25))
    least = max(LEAST_DARK, CLEAR * noise)
    return np.asarray((ridge / least).clip(0, 1) + DARKER * thick.clip(0) / 255, np.float32)


def _above(along: Floats32, off: int) -> Floats32:
    """Return by how much each pixel of [H, n] is darker than the darker of those `off` rows above and below."""
    padded = np.pad(along, ((off, off), (0, 0)), "edge")
    return np.asarray(along - np.maximum(padded[: -2 * off], padded[2 * off :]), np.float32)


def follow_lines(shown: Floats32) -> Floats32:
    """Return the paths along which lines may run in evidence [H, n]: their rows [lines, n], from top to bottom.

    The best path from left to right through each row of the middle column, by dynamic programming from both sides.
    """
    middle = shown.shape[1] // 2
    left, from_left = _best_paths(shown[:, : middle + 1])
    right, from_right = _best_paths(shown[:, : middle - 1 : -1] if middle else shown[:, ::-1])
    total = (left + right - shown[:, middle]) / shown.shape[1]
    rows = _peaks(total)
    paths = np.array([np.concatenate([_trace(from_left, row), _trace(from_right, row)[::-1][1:]]) for row in rows])
    return paths.reshape(len(rows), shown.shape[1]).astype(np.float32)


def unbroken(shown: Floats32, lines: Floats32) -> Mask:
    """Return where lines [lines, n] show in stretches of at least STRETCH steps, bool [lines, n].

    A row of digits shows a line in short stretches only.
    """
    cv = opencv()
    if not len(lines):
        return np.zeros(lines.shape, np.bool_)
    along = shown[lines.astype(np.intp), np.arange(shown.shape[1])] >= 0.5
    runs = cv.morphologyEx(along.astype(np.uint8), cv.MORPH_CLOSE, np.ones((1, 3), np.uint8))
    return np.asarray(cv.morphologyEx(runs, cv.MORPH_OPEN, np.ones((1, STRETCH), np.uint8)), np.bool_)


def bridged(lines: Floats32, runs: Mask) -> Floats32:
    """Return the lines led straight across gaps between the stretches that show: paths there run through digits."""
    columns = np.arange(lines.shape[1])
    straight = [
        np.interp(columns, columns[run], line[run]) if run.any() else line
        for line, run in zip(lines, runs, strict=True)
    ]
    between = np.maximum.accumulate(runs, axis=1) & np.maximum.accumulate(runs[:, ::-1], axis=1)[:, ::-1]
    return np.where(between, np.array(straight).reshape(lines.shape), lines).astype(np.float32)


def inked(flat: Grey, lines: Floats32, runs: Mask | None = None) -> Mask:
    """Return where there is ink on lines [lines, n] across a view [H, W]: bool [lines, W].

    It has about the line's own darkness, within two pixels of it: paths through digits are dark and pale by turns.
    """
    cv = opencv()
    dark = cv.dilate(cv.blur(flat, (3, 3)), np.ones((3, 1), np.uint8))
    columns = np.arange(flat.shape[1])
    middles = STEP // 2 + STEP * np.arange(lines.shape[1])
    rows = np.array([np.interp(columns, middles, line) for line in lines]).reshape(len(lines), len(columns))
    levels = dark[np.rint(rows).astype(np.intp).clip(0, len(flat) - 1), columns]
    usual = np.maximum(np.median(levels, axis=1, keepdims=True), 2 * LEAST_DARK)
    dark_enough = levels >= usual / 2
    if runs is not None:
        dark_enough |= runs[:, np.minimum(columns // STEP, runs.shape[1] - 1)]
    return np.asarray(dark_enough & (levels <= ALIKE * usual), np.bool_)


def _best_paths(shown: Floats32) -> tuple[Floats32, Ints]:
    """Return the evidence of the best path that ends at each row of the last column, and the rows it came from."""
    height, count = shown.shape
    score = shown[:, 0].copy()
    came = np.zeros((count, height), np.intp)
    rows = np.arange(height)
    for column in range(1, count):
        padded = np.pad(score, ASIDE, constant_values=-np.inf)
        moves = np.stack(
            [padded[ASIDE + by : ASIDE + by + height] - np.float32(BEND * by**2) for by in range(-ASIDE, ASIDE + 1)]
        )
        best = moves.argmax(axis=0)
        came[column] = rows + best - ASIDE
        score = moves[best, rows] + shown[:, column]
    return score, came


def _trace(came: Ints, row: int) -> Ints:
    """Return the rows [n] of the path that ends at `row` of the last column."""
    path = [row]
    for column in range(len(came) - 1, 0, -1):
        path.append(int(came[column, path[-1]]))
    return np.array(path[::-1], np.intp)


def _peaks(total: Floats32) -> list[int]:
    """Return the rows where the evidence is highest within NEAR pixels and high enough."""
    cv = opencv()
    highest = cv.dilate(total[:, None], np.ones((2 * NEAR + 1, 1), np.uint8))[:, 0]
    rows: list[int] = []
    for row in np.flatnonzero((total >= highest) & (total >= SHOWN)).tolist():
        if not rows or row - rows[-1] > NEAR:
            rows.append(row)
    return rows
