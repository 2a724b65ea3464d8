"""Forms that MNIST has few of, drawn: plain and European 1s, the open 4, the curled 6, the crossed 7, by shaky hands.

A form is a few strokes, a stroke a few points in the unit square (x to the right, y down): two are joined by a slight
arc, three by a corner, more by a curve.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Stroke = list[tuple[float, float]]
Points = NDArray[np.float64]

#: The standard deviation of a point's place, in parts of the digit's height.
SHAKE = 0.025
#: Points of a curve between two given ones.
_FINE = 8


def one(rng: np.random.Generator) -> list[Stroke]:
    """A 1 of a single stroke, or one with a flag."""
    lean = rng.normal(0, 0.06)
    return [[(0.5 + lean, 0.0), (0.5 - lean, 1.0)]] if rng.random() < 0.5 else flagged_one(rng)


def flagged_one(rng: np.random.Generator) -> list[Stroke]:
    """A 1 with a flag up to nearly its own length, and with a foot as often as not (continental Europe)."""
    reach, drop = rng.uniform(0.15, 0.5), rng.uniform(0.12, 0.62)
    stem, lean = rng.uniform(0.5, 0.62), rng.uniform(-0.05, 0.12)
    top, bottom = (stem + lean, 0.0), (stem - lean / 2, 1.0)
    strokes = [[(top[0] - reach, drop), top], [top, bottom]]
    if rng.random() < 0.5:
        half = rng.uniform(0.12, 0.35)
        strokes.append([(bottom[0] - half, 1.0), (bottom[0] + half, 1.0)])
    return strokes


def open_four(rng: np.random.Generator) -> list[Stroke]:
    """A 4 that is open at the top, or nearly closed: its left arm is steep or slants, its stem starts low or high."""
    bar, stem = rng.uniform(0.45, 0.75), rng.uniform(0.5, 0.8)
    left = rng.uniform(0.05, 0.25)
    arm = rng.uniform(left, stem - 0.05)
    right, start = rng.uniform(stem + 0.02, 1.0), rng.uniform(0.0, bar - 0.1)
    return [[(arm, rng.uniform(0, 0.1)), (left, bar), (right, bar)], [(stem, start), (stem - rng.uniform(0, 0.1), 1.0)]]


def curled_six(rng: np.random.Generator) -> list[Stroke]:
    """A 6 whose stroke begins with a hook and whose bowl curls in, closed or not quite."""
    hook, bowl = rng.uniform(0.0, 0.2), rng.uniform(0.37, 0.6)
    left, right = rng.uniform(0.1, 0.2), rng.uniform(0.75, 0.95)
    head = rng.uniform(0.55, 0.85)
    spine = [(head, hook), (head - 0.22, 0.02), (left + 0.08, 0.35), (left, 0.68), (0.45, 1.0), (right, 0.78)]
    curl = [(right - 0.12, bowl + 0.05), (0.5, bowl), (left + rng.uniform(0.02, 0.25), rng.uniform(0.62, 0.8))]
    return [spine + curl]


def crossed_seven(rng: np.random.Generator) -> list[Stroke]:
    """A 7 with a bar through its stem, with or without a serif at the left end of its top."""
    left, right, foot = rng.uniform(0.05, 0.2), rng.uniform(0.75, 0.95), rng.uniform(0.25, 0.5)
    height, half = rng.uniform(0.42, 0.62), rng.uniform(0.15, 0.32)
    middle = right + (foot - right) * height
    strokes = [[(left, 0.0), (right, rng.uniform(-0.05, 0.05))], [(right, 0.0), (foot, 1.0)]]
    low, high = height + rng.uniform(-0.05, 0.1), height - rng.uniform(-0.05, 0.1)
    strokes.append([(middle - half, low), (middle + half, high)])
    if rng.random() < 0.3:
        strokes.append([(left, 0.0), (left - 0.02, rng.uniform(0.1, 0.25))])
    return strokes


#: Label -> the rare forms of the digit.
FORMS: dict[int, Callable[[np.random.Generator], list[Stroke]]] = {
    1: one,
    4: open_four,
    6: curled_six,
    7: crossed_seven,
}


def draw(label: int, side: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A rare form of the digit: uint8 [side, side], ink 255 on 0, with a stroke of 3 to 14 % of its height.

    A form of a single stroke, a plain 1 or a 6, may be broader, and its ends blunt.
    """
    strokes = [_shaken(stroke, rng) for stroke in FORMS[label](rng)]
    points = np.concatenate(strokes)
    slant, width = rng.normal(0, 0.15), rng.uniform(0.6, 1.05)
    turn = np.array([[width, 0.0], [slant, 1.0]])
    low, high = (points @ turn).min(axis=0), (points @ turn).max(axis=0)
    scale = 0.72 * side / max(high - low)
    thickness = max(1, round(scale * rng.uniform(0.03, 0.14 if len(strokes) > 1 else 0.2)))
    picture = np.zeros((side, side), np.uint8)
    for stroke in strokes:
        # Sixteenths of a pixel, for smooth edges.
        placed = ((stroke @ turn - (low + high) / 2) * scale + side / 2) * 16
        cv2.polylines(picture, [np.rint(placed).astype(np.int32)], False, 255, thickness, cv2.LINE_AA, 4)
    if len(strokes) == 1 and rng.random() < 0.5:
        top, bottom = (int(side / 2 + end * scale * (high - low)[1] / 2) for end in (-1, 1))
        picture[:top] = picture[bottom:] = 0
    return picture


def _shaken(stroke: Stroke, rng: np.random.Generator) -> Points:
    """Points [k, 2] along the stroke, those that were given not quite where they should be."""
    points = np.array(stroke) + rng.normal(0, SHAKE, (len(stroke), 2))
    if len(points) == 2:
        along = points[1] - points[0]
        bow = rng.normal(0, 0.06) * np.array([along[1], -along[0]])
        points = np.stack([points[0], points.mean(axis=0) + bow, points[1]])
    return _curve(points) if len(points) > 3 or len(stroke) == 2 else points


def _curve(points: Points) -> Points:
    """The Catmull-Rom spline through the points (E. Catmull, R. Rom, 1974), its ends doubled."""
    p = np.concatenate([points[:1], points, points[-1:]])
    t = np.linspace(0, 1, _FINE, endpoint=False)[:, None, None]
    a, b, c, d = p[:-3], p[1:-2], p[2:-1], p[3:]
    segments = b + t * (c - a) / 2 + t**2 * (a - 2.5 * b + 2 * c - d / 2) + t**3 * (1.5 * (b - c) + (d - a) / 2)
    return np.concatenate([segments.transpose(1, 0, 2).reshape(-1, 2), points[-1:]])
