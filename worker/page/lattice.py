"""Follows the ruled lines of a table that is seen from straight above, also where curved paper bends them."""

from __future__ import annotations

import itertools

import numpy as np

from worker.image.arrays import Floats32, Grey, Ints
from worker.page.opencv import opencv

#: Lines are followed in steps of this many pixels, and may move this many pixels aside in each.
STEP, ASIDE = 8, 2
#: Each pixel aside costs this much of a step's evidence: lines are nearly straight.
BEND = 0.2
#: Lines are thinner than this many pixels, and darkness is averaged over LONG pixels along them.
THICK, LONG = 11, 11
#: A line is this many times darker than the noise of the paper, and at least this dark (255ths of the paper's level).
CLEAR, LEAST_DARK = 2.5, 5.0
#: A path may be a line if it shows along this share of its way ...
SHOWN = 0.5
#: ... and is one if this share of it lies in stretches of at least STRETCH steps that show.
WHOLE, STRETCH = 0.6, 9
#: A black line has this much more evidence than a pale one.
DARKER = 0.5
#: Lines nearer than this many pixels are one.
NEAR = 9
#: A table has at least two rows and two columns.
LEAST_LINES = 3
#: In a table, this share of the pieces between neighbouring crossings shows; merged cells lack some.
CLOSED = 0.85
#: Its lines bend by at most this many pixels in eight steps: paths through grass or grain do so by two.
ZIGZAG = 0.6
#: Its lines end at the outer ones: beyond them, less than this share of a cell shows. Squared paper goes on.
BEYOND = 0.3
#: A sudoku's ten lines in each direction are evenly spaced within this share of a cell and fill this share of the view;
#: this many of them are seen, the others are put between.
EVEN, FILLED, SEEN = 0.2, 0.8, 8


def evidence(flat: Grey) -> Floats32:
    """Return the evidence for a line from left to right at each row of every STEP-th column: 0 none, 1 or more a line.

    That is the darkness along a stretch of LONG pixels, less that on the darker side THICK pixels off. DARKER is for
    the middle of a line, and for the frame of a table beside the fold or edge of the paper.
    """
    cv = opencv()
    along = cv.blur(flat.astype(np.float32), (LONG, 3), borderType=cv.BORDER_REPLICATE)[:, STEP // 2 :: STEP]
    padded = np.pad(along, ((THICK, THICK), (0, 0)), "edge")
    ridge = along - np.maximum(padded[: -2 * THICK], padded[2 * THICK :])
    noise = float(np.quantile(np.abs(ridge), 0.25))
    least = max(LEAST_DARK, CLEAR * noise)
    return np.asarray((ridge / least).clip(0, 1) + DARKER * ridge.clip(0) / 255, np.float32)


def follow_lines(shown: Floats32) -> tuple[Floats32, Floats32]:
    """Return the lines in evidence [H, n]: their rows [lines, n] from top to bottom, and their mean evidence [lines].

    The best path from left to right through each row of the middle column, by dynamic programming from both sides.
    """
    middle = shown.shape[1] // 2
    left, from_left = _best_paths(shown[:, : middle + 1])
    right, from_right = _best_paths(shown[:, : middle - 1 : -1] if middle else shown[:, ::-1])
    total = (left + right - shown[:, middle]) / shown.shape[1]
    rows = _peaks(total)
    paths = np.array([np.concatenate([_trace(from_left, row), _trace(from_right, row)[::-1][1:]]) for row in rows])
    return paths.reshape(len(rows), shown.shape[1]).astype(np.float32), total[rows]


def lattice_of(flat: Grey) -> Floats32 | None:
    """Return the crossings [rows + 1, columns + 1, 2] of the table's lines, x before y; None if it has no cells.

    Where ten lines in each direction are evenly spaced, they are a sudoku's: others are rows of digits, or folds.
    """
    shown = [evidence(flat), evidence(flat.T)]
    paths = [follow_lines(one)[0] for one in shown]
    whole = [unbroken(*pair) for pair in zip(shown, paths, strict=True)]
    nine = [ten_lines(path, share, len(one)) for path, share, one in zip(paths, whole, shown, strict=True)]
    if nine[0] is not None and nine[1] is not None:
        return crossings(nine[0], nine[1])
    across, down = (path[share >= WHOLE] for path, share in zip(paths, whole, strict=True))
    if min(len(across), len(down)) < LEAST_LINES:
        return None
    if max(_zigzag(across), _zigzag(down)) > ZIGZAG:
        return None
    found = crossings(across, down)
    sides = (shown[0], across, found[..., 0]), (shown[1], down, found[..., 1].T)
    return found if all(_is_closed(*side) for side in sides) else None


def ten_lines(paths: Floats32, whole: Floats32, height: int) -> Floats32 | None:
    """Return ten evenly spaced lines [10, n] of the paths [lines, n] in a view of that height, if there are such.

    Each pair of paths may be the first and the last; the best has most lines seen, most evenly, and fewest between.
    """
    best, chosen = 0.0, None
    level = paths.mean(axis=1)
    for first in range(len(paths)):
        for last in np.flatnonzero(level - level[first] >= FILLED * height).tolist():
            ideal = paths[first] + np.linspace(0, 1, 10)[:, None] * (paths[last] - paths[first])
            apart = np.abs(paths[None, first : last + 1] - ideal[:, None]).mean(axis=2)
            nearest = apart.argmin(axis=1)
            pitch = (level[last] - level[first]) / 9
            seen = (apart.min(axis=1) <= EVEN * pitch) & (whole[first + nearest] >= WHOLE)
            between = float(whole[first : last + 1].sum()) - float(whole[first + nearest[seen]].sum())
            uneven = float(apart.min(axis=1)[seen].sum()) / pitch
            score = float(whole[first + nearest[seen]].sum()) - between / 2 - 2 * uneven
            if seen.sum() >= SEEN and score > best:
                best, chosen = score, (ideal, first + nearest, seen)
    if chosen is None:
        return None
    ideal, nearest, seen = chosen
    offset = (paths[nearest] - ideal)[seen]
    numbers = np.arange(10)
    drift = [np.interp(numbers, numbers[seen], offset[:, column]) for column in range(paths.shape[1])]
    return np.asarray(ideal + np.transpose(drift), np.float32)


def _is_closed(shown: Floats32, lines: Floats32, crossed: Floats32) -> bool:
    """Tell whether lines show between their crossings, at `crossed` [lines, others], and end at the outer ones."""
    columns = np.arange(shown.shape[1])
    ends = ((crossed - STEP // 2) / STEP).clip(0, len(columns) - 1).astype(np.intp)
    on = shown[np.rint(lines).astype(np.intp), columns]
    pieces = [
        line[a : b + 1].mean() >= 0.5 for line, row in zip(on, ends, strict=True) for a, b in itertools.pairwise(row)
    ]
    cell = (ends[:, -1] - ends[:, 0]).mean() / (ends.shape[1] - 1)
    before = np.median([line[: max(0, row[0] - 1)].sum() for line, row in zip(on, ends, strict=True)])
    after = np.median([line[row[-1] + 2 :].sum() for line, row in zip(on, ends, strict=True)])
    return bool(np.mean(pieces) >= CLOSED and max(before, after) <= BEYOND * cell)


def unbroken(shown: Floats32, lines: Floats32) -> Floats32:
    """Return for each line the share of its way in stretches of at least STRETCH steps that show; float [lines].

    A row of digits shows a line in short stretches only.
    """
    cv = opencv()
    if not len(lines):
        return np.empty(0, np.float32)
    along = shown[lines.astype(np.intp), np.arange(shown.shape[1])] >= 0.5
    runs = cv.morphologyEx(along.astype(np.uint8), cv.MORPH_CLOSE, np.ones((1, 3), np.uint8))
    runs = cv.morphologyEx(runs, cv.MORPH_OPEN, np.ones((1, STRETCH), np.uint8))
    return np.asarray(runs.mean(axis=1), np.float32)


def _zigzag(lines: Floats32) -> float:
    """Return by how many pixels the median line deviates from the straight line between its places four steps off."""
    cv = opencv()
    soft = cv.blur(lines, (4, 1))
    return float(np.median(np.abs(soft[:, 8:] - 2 * soft[:, 4:-4] + soft[:, :-8]).mean(axis=1)))


def crossings(across: Floats32, down: Floats32) -> Floats32:
    """Return where lines from left to right, [rows + 1, n], cross those from top to bottom, [columns + 1, m].

    Going to and fro between both lines converges in a few rounds, because they are nearly level and upright.
    """
    middles = STEP // 2 + STEP * np.arange(max(across.shape[1], down.shape[1]))
    x = np.tile(down.mean(axis=1), (len(across), 1))
    for _ in range(4):
        y = np.array([np.interp(at, middles[: len(line)], line) for at, line in zip(x, across, strict=True)])
        x = np.array([np.interp(at, middles[: len(line)], line) for at, line in zip(y.T, down, strict=True)]).T
    return np.stack([x, y], axis=-1).astype(np.float32)


def _best_paths(shown: Floats32) -> tuple[Floats32, Ints]:
    """Return the evidence of the best path that ends at each row of the last column, and the rows it came from."""
    height, count = shown.shape
    score = shown[:, 0].copy()
    came = np.zeros((count, height), np.intp)
    rows = np.arange(height)
    for column in range(1, count):
        padded = np.pad(score, ASIDE, constant_values=-np.inf)
        moves = np.stack(
            [padded[ASIDE + by : ASIDE + by + height] - np.float32(BEND * abs(by)) for by in range(-ASIDE, ASIDE + 1)]
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
