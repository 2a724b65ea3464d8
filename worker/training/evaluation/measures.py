"""Computes calibration and risk from confidences and whether the answers were right. Pure NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

#: 95 % of a normal distribution lie within this many standard deviations.
Z = 1.959964
#: The number of bins in Guo et al.; see `reliability`.
BINS = 15
#: Most points of a curve: more than a plot shows.
POINTS = 200


class Bin(NamedTuple):
    """The answers with a confidence in (low, high]: their number, mean confidence, and the share that is right."""

    low: float
    high: float
    answers: int
    confidence: float
    accuracy: float


class Point(NamedTuple):
    """The share of answers with at least this confidence (threshold), and the share of those that is wrong."""

    coverage: float
    risk: float
    threshold: float


def wilson(right: int, n: int) -> tuple[float, float]:
    """Return the 95 % confidence interval of the share `right` in `n`; (0, 1) if n is 0.

    E. B. Wilson, J. Am. Stat. Assoc. 22 (1927) 209-212: unlike the normal interval it holds for few errors or none.
    """
    if n == 0:
        return 0.0, 1.0
    share, z2 = right / n, Z**2
    middle = share + z2 / (2 * n)
    half = Z * (share * (1 - share) / n + z2 / (4 * n**2)) ** 0.5
    low, high = (middle - half) / (1 + z2 / n), (middle + half) / (1 + z2 / n)
    return max(low, 0.0), min(high, 1.0)  # rounding alone can leave [0, 1]


def reliability(confidences: Floats, right: Bools, bins: int = BINS) -> list[Bin]:
    """Sort answers, given by confidences [n] in [0, 1] and whether they were right [n], into bins of equal width.

    C. Guo et al., On Calibration of Modern Neural Networks, 2017 (https://arxiv.org/abs/1706.04599).
    """
    places = np.clip(np.ceil(confidences * bins).astype(int) - 1, 0, bins - 1)
    counts = np.bincount(places, minlength=bins)
    filled = np.maximum(counts, 1)
    sure = np.bincount(places, confidences, bins) / filled
    hits = np.bincount(places, right, bins) / filled
    rows = zip(counts.tolist(), sure.tolist(), hits.tolist(), strict=True)
    return [Bin(i / bins, (i + 1) / bins, *row) for i, row in enumerate(rows)]


def calibration_error(bins: list[Bin]) -> float:
    """Return the expected calibration error (ECE): the mean distance of confidence and accuracy in the bins."""
    total = sum(one.answers for one in bins)
    return sum(one.answers * abs(one.confidence - one.accuracy) for one in bins) / max(total, 1)


def risk_coverage(confidences: Floats, right: Bools) -> list[tuple[float, float]]:
    """Return pairs (coverage, risk), coverage rising to 1: the share of the surest answers, and of errors among them.

    R. El-Yaniv and Y. Wiener, J. Mach. Learn. Res. 11 (2010) 1605-1641. Answers of equal confidence share a point.
    """
    curve = operating_points(confidences, right)
    if len(curve) > POINTS:
        curve = [curve[place] for place in np.linspace(0, len(curve) - 1, POINTS).round().astype(int)]
    return [(point.coverage, point.risk) for point in curve]


def operating_points(confidences: Floats, right: Bools) -> list[Point]:
    """Return the whole curve of `risk_coverage`: a point for each distinct confidence."""
    n = len(confidences)
    order = np.argsort(-confidences, kind="stable")
    errors, ranked = np.cumsum(~right[order]), confidences[order]
    taken = np.flatnonzero(np.append(np.diff(ranked) != 0, True)) + 1 if n else np.empty(0, int)
    return [Point(k / n, int(errors[k - 1]) / k, float(ranked[k - 1])) for k in taken.tolist()]


def at_coverages(curve: Sequence[Point], coverages: Sequence[float]) -> list[Point]:
    """Return the first point of a curve that reaches each coverage, without duplicates."""
    reached = (next((point for point in curve if point.coverage >= coverage), None) for coverage in coverages)
    return list(dict.fromkeys(point for point in reached if point))


def area(curve: list[tuple[float, float]]) -> float:
    """Return the mean risk over all coverages (AURC): less if the confidences tell better which answers are wrong."""
    before = [0.0, *(coverage for coverage, _ in curve)]
    return sum((coverage - last) * risk for last, (coverage, risk) in zip(before, curve, strict=False))
