"""Chooses the digits of a line of text: the cheapest path through its parts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from worker.image.arrays import Floats64
from worker.page.candidates import Row

#: The cost of leaving out a part as high as a digit; that of a digit is minus the logarithm of its probability.
LEFT_OUT = 3.0
#: Parts lower than this, in digit heights, are left out for less.
SMALL = 0.5


def best_paths(rows: Sequence[Row], chances: Floats64) -> list[list[int]]:
    """Return the best path of each row, as positions among the candidates of all; `chances` [n] are of all, too."""
    paths, start = [], 0
    for row in rows:
        stop = start + len(row.candidates)
        paths.append([start + at for at in best_path(row, chances[start:stop])])
        start = stop
    return paths


def best_path(row: Row, chances: Floats64) -> list[int]:
    """Return the positions of the candidates of the best path, from left to right.

    `chances` [n] are the probabilities that each candidate of the row is exactly one digit. The path goes from part to
    part: a candidate takes all its parts, and any part may be left out. The costs of a candidate count once for each of
    its parts, by their size, or few wide digits would always be cheaper than many narrow ones (C.-L. Liu, H. Sako,
    H. Fujisawa, Effects of classifier structures and training regimes on integrated segmentation and recognition of
    handwritten numeral strings, IEEE Trans. PAMI 26, 2004, 1395-1407).
    """
    weights = np.array([_weight(row, at) for at in range(len(row.parts))])
    costs = -np.log(np.maximum(chances, 1e-6))
    arriving: dict[int, list[int]] = {}
    for at, one in enumerate(row.candidates):
        arriving.setdefault(one.stop, []).append(at)
    total, chosen = [0.0], [-1]
    for stop in range(1, len(row.parts) + 1):
        best, by = total[stop - 1] + LEFT_OUT * float(weights[stop - 1]), -1
        for at in arriving.get(stop, []):
            start = row.candidates[at].start
            cost = total[start] + float(costs[at]) * float(weights[start:stop].sum()) + row.candidates[at].cost
            if cost < best:
                best, by = cost, at
        total.append(best)
        chosen.append(by)
    path, at = [], len(row.parts)
    while at > 0:
        by = chosen[at]
        if by >= 0:
            path.append(by)
        at = row.candidates[by].start if by >= 0 else at - 1
    return path[::-1]


def _weight(row: Row, at: int) -> float:
    """Return how much a part counts: 1, or less for a small mark that was not cut into parts."""
    part = row.parts[at]
    if any(other.mark == part.mark for other in row.parts[max(0, at - 1) : at + 2] if other is not part):
        return 1.0
    return min(1.0, float(max(part.box[2:]) / row.height / SMALL) ** 2)
