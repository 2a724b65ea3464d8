"""Pictures of nothing, of noise, and of anything: grey levels uint8 [h, w], of sides from 28 to 160 pixels."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Levels = NDArray[np.floating[Any]]

SIDES = (28, 160)


def blank(rng: np.random.Generator) -> Picture:
    """Empty paper or screen: even, or unevenly lit, grainy, ruled, squared or folded."""
    height, width = _sides(rng)
    if rng.random() < 0.15:
        return np.full((height, width), rng.choice([0, 255, int(rng.integers(256))]), np.uint8)
    paper = rng.uniform(70, 250) * (1 + rng.uniform(0, 0.3) * _slope(height, width, rng))
    if rng.random() < 0.6:
        paper += rng.uniform(0, 15) * smooth(height, width, int(rng.integers(2, 12)), rng)
    if rng.random() < 0.5:
        _rule(paper, rng)
        if rng.random() < 0.4:
            _rule(paper.T, rng)
    if rng.random() < 0.2:  # a fold: one side of it is darker
        paper *= 1 - rng.uniform(0.03, 0.2) * (_slope(height, width, rng) > rng.uniform(-0.5, 0.5))
    return _finished(paper, rng.uniform(0, 6), rng)


def noise(rng: np.random.Generator) -> Picture:
    """White noise, fine or blotchy, salt and pepper, or stripes."""
    height, width = _sides(rng)
    kind = rng.integers(4)
    if kind == 0:
        return _finished(np.full((height, width), rng.uniform(60, 200)), rng.uniform(10, 90), rng)
    if kind == 1:
        blotches = smooth(height, width, int(rng.integers(4, 28)), rng)
        return _finished(128 + rng.uniform(20, 120) * blotches, rng.uniform(0, 15), rng)
    if kind == 2:
        specks = rng.random((height, width), np.float32) < rng.uniform(0.002, 0.3)
        levels = np.where(specks, rng.uniform(150, 255), rng.uniform(0, 100))
        return _finished(levels if rng.random() < 0.5 else 255 - levels, rng.uniform(0, 10), rng)
    waves = np.sin(_slope(height, width, rng) * rng.uniform(6, 80))
    waves = np.sign(waves) if rng.random() < 0.5 else waves
    return _finished(128 + rng.uniform(15, 120) * waves, rng.uniform(0, 30), rng)


def texture(rng: np.random.Generator) -> Picture:
    """Fractal noise, whose amplitudes fall with the frequency as they do in pictures of nature, or a chequered board.

    D. Field, J. Opt. Soc. Am. A 4 (1987) 2379-2394.
    """
    height, width = _sides(rng)
    if rng.random() < 0.2:
        cells = rng.integers(2, 10, 2)
        board = np.indices((height, width)) * cells[:, None, None] // np.array([height, width])[:, None, None]
        levels = np.where(board.sum(axis=0) % 2, rng.uniform(130, 255), rng.uniform(0, 110))
        return _finished(levels * (1 + 0.2 * _slope(height, width, rng)), rng.uniform(0, 12), rng)
    roughness = rng.uniform(0.4, 1.0)
    levels = np.zeros((height, width), np.float32)
    for octave in range(5):
        levels += np.float32(roughness**octave) * smooth(height, width, 2 ** (octave + 1) + 1, rng)
    if rng.random() < 0.3:
        levels = np.abs(levels) * 2 - 1  # ridges, as of marble or cloth
    return _finished(128 + rng.uniform(30, 110) * levels, rng.uniform(0, 6), rng)


def scene(rng: np.random.Generator) -> Picture:
    """Things before other things: ellipses and polygons of all sizes, shaded, over a sky or a wall.

    The dead leaves model: A. Lee, D. Mumford, J. Huang, Int. J. Computer Vision 41 (2001) 35-59.
    """
    height, width = _sides(rng)
    levels: Levels = (rng.uniform(40, 220) + rng.uniform(0, 80) * _slope(height, width, rng)).astype(np.float32)
    if rng.random() < 0.3:  # the ground
        levels[int(height * rng.uniform(0.3, 0.8)) :] = rng.uniform(20, 220)
    # Few things are large: the density of radii falls with their cube.
    radii = max(height, width) * np.minimum(0.06 / np.sqrt(rng.uniform(0.005, 1, int(rng.integers(3, 60)))), 0.6)
    for radius in radii:
        x, y, level = int(rng.integers(width)), int(rng.integers(height)), rng.uniform(0, 255)
        if rng.random() < 0.5:
            axes = int(radius) + 1, int(radius * rng.uniform(0.3, 1)) + 1
            cv2.ellipse(levels, (x, y), axes, rng.uniform(0, 180), 0, 360, level, -1)
        else:
            angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 7))))
            corners = np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], axis=1)
            cv2.fillPoly(levels, [np.rint(corners).astype(np.int32)], level)
    levels *= 1 + rng.uniform(0, 0.3) * _slope(height, width, rng).astype(np.float32)
    levels += rng.uniform(0, 20) * smooth(height, width, 9, rng)
    blurred = np.asarray(cv2.GaussianBlur(levels, (0, 0), rng.uniform(0.3, 2.5)), np.float32)
    return _finished(blurred, rng.uniform(0, 8), rng)


def smooth(height: int, width: int, cells: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return a smooth random field float32 [height, width] about 0, mostly in [-1, 1], with `cells` cells a side."""
    coarse = rng.normal(0, 0.5, (cells, cells)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)


def _sides(rng: np.random.Generator) -> tuple[int, int]:
    """Height and width, one no more than twice the other."""
    longer = int(rng.integers(*SIDES))
    shorter = max(SIDES[0], round(longer * min(1.0, rng.uniform(0.5, 1.5))))
    return (longer, shorter) if rng.random() < 0.5 else (shorter, longer)


def _slope(height: int, width: int, rng: np.random.Generator) -> Levels:
    """An even slope in any direction, from about -1 to 1: float64 [height, width]."""
    angle = rng.uniform(0, 2 * np.pi)
    down, across = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)
    slope: Levels = np.sin(angle) * down + np.cos(angle) * across
    return slope


def _rule(paper: Levels, rng: np.random.Generator) -> None:
    """Darken lines of the paper, evenly apart, as on ruled paper."""
    gap, thickness = int(rng.integers(6, 40)), int(rng.integers(1, 3))
    faint = rng.uniform(0.6, 0.95)
    for line in range(int(rng.integers(gap)), len(paper), gap):
        paper[line : line + thickness] *= faint


def _finished(levels: Levels, grain: float, rng: np.random.Generator) -> Picture:
    """Levels with the noise of a sensor, of a standard deviation in grey levels, as grey levels."""
    noise = rng.standard_normal(levels.shape, np.float32) * np.float32(grain)
    return np.rint(levels + noise).clip(0, 255).astype(np.uint8)
