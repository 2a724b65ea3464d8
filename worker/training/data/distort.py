"""Distorts MNIST's digits as hands, pens, mice and cameras do. Pure functions of a NumPy generator.

Elastic distortion as in P. Simard, D. Steinkraus, J. Platt, "Best Practices for Convolutional Neural Networks Applied
to Visual Document Analysis", 2003: random displacements, smoothed by a Gaussian. Smoothing a field for each image
is slow, so fields are windows at random places of large ones; a batch is then one remapping, about 20 us an image.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.training.data.idx import SIDE, Images

Fields = NDArray[np.float32]

#: Standard deviations, in pixels, of the Gaussians that smooth the displacements (Simard: 4).
SMOOTHINGS = (3.5, 4.5, 5.5, 6.5)
#: The largest standard deviation of the displacements, in pixels.
ELASTIC = 1.0
#: The largest rotation in degrees, shear as dx/dy, change of scale, and translation in pixels.
ROTATION, SHEAR, SCALE, SHIFT = 15.0, 0.24, 0.15, 1.2
#: The share of images whose strokes become thicker or thinner, and by up to how much of a pixel on either side.
RESTROKED, THICKER, THINNER = 0.3, 0.6, 0.5
#: Width of the margin within which each image is remapped, so that it never meets its neighbour in the stack.
MARGIN = 6

_FIELD_SIDE = 512
_ROWS, _COLUMNS = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32)
_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


def distort(images: Images, rng: np.random.Generator) -> Images:
    """Bend, turn, shear, scale and move images uint8 [n, 28, 28]; make some thicker or thinner."""
    n = len(images)
    x, y = _affine(n, rng)
    bend = _windows(n, rng) * rng.uniform(0, ELASTIC, (n, 1, 1, 1)).astype(np.float32)
    side = SIDE + 2 * MARGIN
    x = (x + bend[..., 0] + MARGIN).clip(0, side - 1)
    y = (y + bend[..., 1] + MARGIN).clip(0, side - 1)
    framed = np.zeros((n, side, side), np.uint8)
    framed[:, MARGIN:-MARGIN, MARGIN:-MARGIN] = images
    moved = np.empty_like(images)
    chunk = 512  # OpenCV remaps from at most 32,767 rows
    for start in range(0, n, chunk):
        part = slice(start, start + chunk)
        stack = framed[part].reshape(-1, side)
        rows = y[part] + np.arange(len(y[part]), dtype=np.float32)[:, None, None] * side
        mapped = cv2.remap(stack, x[part].reshape(-1, SIDE), rows.reshape(-1, SIDE), cv2.INTER_LINEAR)
        moved[part] = mapped.reshape(-1, SIDE, SIDE)
    return _restroked(moved, rng)


def _affine(n: int, rng: np.random.Generator) -> tuple[Fields, Fields]:
    """Return the source x and y of each pixel of n images, float32 [n, 28, 28]."""
    angle, shear, width, height = (
        rng.uniform(low, high, (n, 1, 1)).astype(np.float32)
        for low, high in [
            (-np.deg2rad(ROTATION), np.deg2rad(ROTATION)),
            (-SHEAR, SHEAR),
            (1 - SCALE, 1 + SCALE),
            (1 - SCALE, 1 + SCALE),
        ]
    )
    right, down = rng.uniform(-SHIFT, SHIFT, (2, n, 1, 1)).astype(np.float32)
    middle = (SIDE - 1) / 2
    x, y = _COLUMNS - middle, _ROWS - middle
    cosine, sine = np.cos(angle), np.sin(angle)
    across = (cosine + shear * sine) * x + (shear * cosine - sine) * y
    along = sine * x + cosine * y
    return across / width + middle + right, along / height + middle + down


def _windows(n: int, rng: np.random.Generator) -> Fields:
    """Smooth displacements of standard deviation 1: float32 [n, 28, 28, 2]."""
    fields = _fields()
    views = np.lib.stride_tricks.sliding_window_view(fields, (SIDE, SIDE), axis=(1, 2))
    top, left = rng.integers(0, _FIELD_SIDE - SIDE, (2, n))
    taken: Fields = views[rng.integers(0, len(fields), n), top, left].transpose(0, 2, 3, 1)
    return taken


@lru_cache(maxsize=1)
def _fields() -> Fields:
    """One large field for each smoothing, float32 [4, 512, 512, 2]; their seed is fixed, what varies is the window."""
    noise = np.random.default_rng(0).uniform(-1, 1, (len(SMOOTHINGS), _FIELD_SIDE, _FIELD_SIDE, 2)).astype(np.float32)
    smooth = [cv2.GaussianBlur(one, (0, 0), sigma) for one, sigma in zip(noise, SMOOTHINGS, strict=True)]
    return np.stack([one / one.std() for one in smooth])


def _restroked(images: Images, rng: np.random.Generator) -> Images:
    """Some of the images blended with their grey dilation or erosion, which leaves strokes as soft as they were."""
    for index in np.flatnonzero(rng.random(len(images)) < RESTROKED):
        amount = rng.uniform(-THINNER, THICKER)
        other = (cv2.dilate if amount > 0 else cv2.erode)(images[index], _CROSS)
        images[index] = cv2.addWeighted(images[index], 1 - abs(amount), other, abs(amount), 0)
    return images
