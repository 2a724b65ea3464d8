"""Shapes and scribbles as ink 255 on 0, uint8 [SIDE, SIDE]: none that may be a digit, such as a ring or an upright."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.training.drawing.letters import WRITTEN, write
from worker.training.drawing.strokes import Points, _curve

Picture = NDArray[np.uint8]

#: In pixels.
SIDE = 72


def shape(rng: np.random.Generator) -> Picture:
    """A triangle, a rectangle, a star, a cross, a spiral, a zigzag, a grid, or a filled form."""
    form = str(rng.choice(["disc", *_FORMS]))
    picture, thickness = np.zeros((SIDE, SIDE), np.uint8), int(rng.integers(2, 8))
    turn = rng.uniform(0, 2 * np.pi)
    if form == "disc":
        axes = int(rng.integers(16, 32)), int(rng.integers(16, 32))
        return np.asarray(cv2.ellipse(picture, (36, 36), axes, np.rad2deg(turn), 0, 360, 255, -1), np.uint8)
    lines, closed = _FORMS[form](turn, rng), form in ("polygon", "star")
    placed = [np.rint((line * 30 + 36) * 16).astype(np.int32) for line in lines]
    if closed and rng.random() < 0.4:
        return np.asarray(cv2.fillPoly(picture, placed, 255, cv2.LINE_AA, 4), np.uint8)
    return np.asarray(cv2.polylines(picture, placed, closed, 255, thickness, cv2.LINE_AA, 4), np.uint8)


def _polygon(turn: float, rng: np.random.Generator) -> list[Points]:
    """Three or four corners; with more, or rounder, it would be a 0."""
    corners = int(rng.integers(3, 5))
    angles = np.arange(corners) * 2 * np.pi / corners + rng.uniform(-0.25, 0.25, corners)
    return [_around(angles + (np.pi / 4 + rng.normal(0, 0.15) if corners == 4 else turn), rng.uniform(0.8, 1, corners))]


def _star(turn: float, rng: np.random.Generator) -> list[Points]:
    points = int(rng.integers(4, 9))
    radii = np.where(np.arange(2 * points) % 2, rng.uniform(0.3, 0.6), 1)
    return [_around(turn + np.arange(2 * points) * np.pi / points, radii)]


def _cross(turn: float, rng: np.random.Generator) -> list[Points]:
    arms = (turn, turn + rng.uniform(1.1, 2.0))
    return [_around(np.array([arm, arm + np.pi]), rng.uniform(0.8, 1, 2)) for arm in arms]


def _spiral(turn: float, rng: np.random.Generator) -> list[Points]:
    """Of three turns and more: with fewer it may be a 6, a 9 or a 0."""
    along = np.linspace(0.03, 1, 90)
    return [_around(turn + along * rng.uniform(6, 10) * np.pi * rng.choice([-1, 1]), along)]


def _zigzag(_: float, rng: np.random.Generator) -> list[Points]:
    """Of five strokes and more: with three it may be a 2."""
    across = np.linspace(-1, 1, int(rng.integers(6, 10)))
    height = rng.uniform(0.3, 1) * np.where(np.arange(len(across)) % 2, 1, -1) + rng.normal(0, 0.1, len(across))
    return [np.stack([across, height] if rng.random() < 0.7 else [height, across], axis=1)]


def _grid(_: float, rng: np.random.Generator) -> list[Points]:
    at = np.linspace(-1, 1, int(rng.integers(3, 6)))
    down = [np.array([[x, -1], [x, 1]]) for x in at]
    return down + [line[:, ::-1] for line in down]


def _around(angles: Points, radii: Points) -> Points:
    """Points [k, 2] about the middle of a square from -1 to 1."""
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)


_FORMS = {"polygon": _polygon, "star": _star, "cross": _cross, "spiral": _spiral, "zigzag": _zigzag, "grid": _grid}


def bubble(rng: np.random.Generator) -> Picture:
    """A mark on a form: a circle with a letter, a smudge or a cross in it, or a box with a tick.

    The inside mostly touches the rim, or serving would drop it and a ring would remain.
    """
    picture, thickness = np.zeros((SIDE, SIDE), np.uint8), int(rng.integers(1, 6))
    radius, inside = int(rng.integers(22, 32)), str(rng.choice(["letter", "smudge", "cross", "tick"]))
    strokes = [_curve(rng.uniform(-0.9, 0.9, (int(rng.integers(10, 20)), 2)))]
    if inside == "tick":
        low, high = 36 - radius, 36 + radius
        cv2.rectangle(picture, (low, low), (high, high), 255, thickness)
        strokes = [np.array([(-0.9, -0.1), (-0.2, 0.6), (0.9, -0.9)])]
    else:
        cv2.circle(picture, (36, 36), radius, 255, thickness, cv2.LINE_AA)
    if inside == "cross":
        strokes = _cross(rng.uniform(0, np.pi), rng)
    if inside == "letter":
        letter, side = write(WRITTEN[str(rng.choice(list(WRITTEN)))], rng), int(radius * rng.uniform(1.45, 1.7))
        place, strokes = np.s_[36 - side // 2 : 36 - side // 2 + side], []
        np.maximum(picture[place, place], cv2.resize(letter, (side, side)), out=picture[place, place])
    placed = [np.rint((stroke * radius + 36) * 16).astype(np.int32) for stroke in strokes]
    return np.asarray(cv2.polylines(picture, placed, False, 255, thickness, cv2.LINE_AA, 4), np.uint8)


def scribble(rng: np.random.Generator) -> Picture:
    """Curves with too many bends for a digit, or hatching."""
    picture, thickness = np.zeros((SIDE, SIDE), np.uint8), int(rng.integers(1, 6))
    if rng.random() < 0.25:
        lean, lines = rng.uniform(-0.6, 0.6), int(rng.integers(4, 10))
        ends = [(x, -1.0) for x in np.linspace(-1, 1, lines)]
        strokes = [np.array([(x, y), (x + lean, -y)]) + rng.normal(0, 0.06, (2, 2)) for x, y in ends]
    else:
        strokes = [_curve(rng.uniform(-1, 1, (int(rng.integers(10, 18)), 2))) for _ in range(int(rng.integers(1, 4)))]
    placed = [np.rint((stroke.clip(-1.1, 1.1) * 28 + 36) * 16).astype(np.int32) for stroke in strokes]
    return np.asarray(cv2.polylines(picture, placed, False, 255, thickness, cv2.LINE_AA, 4), np.uint8)
