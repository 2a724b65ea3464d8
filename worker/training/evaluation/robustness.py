"""Changes MNIST's digits to measure robustness: moved, turned, redrawn, blurred, noisy and so on, all still 28x28.

As in MNIST-C (N. Mu and J. Gilmer, 2019, https://arxiv.org/abs/1906.02337), with milder and harder steps.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from worker.training.data.idx import SIDE, Images

Grey = NDArray[np.uint8]
#: Changes grey levels uint8 [28, 28], ink bright on 0.
Change = Callable[[Grey, np.random.Generator], Grey]

#: Strokes are made thinner and thicker at this many times the size, so that a pixel is a fine step.
FINE = 4
#: Standard deviation of the noise, in grey levels.
NOISE = 40
#: Grey levels of paper and ink in a picture of low contrast.
PALE = (110, 150)
#: The brightest background that shading makes, in grey levels.
SHADE = 120
#: Standard deviation of the blur, in pixels.
BLUR = 1.0
#: From 1 to 100; cameras use 90.
JPEG_QUALITY = 10


def subset(n: int, of: int, seed: int = 0) -> NDArray[np.intp]:
    """Choose `n` of `of` images, or all if there are fewer, by the seed; return their positions in rising order."""
    return np.sort(np.random.default_rng(seed).permutation(of)[:n])


def changed(images: Images, change: Change, seed: int = 0) -> Images:
    """Change images uint8 [n, 28, 28], each with its own random generator."""
    chances = (np.random.default_rng((seed, i)) for i in range(len(images)))
    return np.stack([change(image, chance) for image, chance in zip(images, chances, strict=True)])


def _as_it_is(grey: Grey, _: np.random.Generator) -> Grey:
    return grey


def _shifted(grey: Grey, rng: np.random.Generator, *, by: int) -> Grey:
    """In one of the four directions; what leaves the picture is lost."""
    right, down = [(by, 0), (-by, 0), (0, by), (0, -by)][rng.integers(4)]
    image = Image.fromarray(grey).transform((SIDE, SIDE), Image.Transform.AFFINE, (1, 0, -right, 0, 1, -down))
    return np.asarray(image)


def _rotated(grey: Grey, _: np.random.Generator, *, degrees: float) -> Grey:
    """Counter-clockwise."""
    return np.asarray(Image.fromarray(grey).rotate(degrees, Image.Resampling.BICUBIC))


def _scaled(grey: Grey, _: np.random.Generator, *, factor: float) -> Grey:
    margin = SIDE / 2 * (1 - 1 / factor)
    matrix = (1 / factor, 0, margin, 0, 1 / factor, margin)
    image = Image.fromarray(grey).transform((SIDE, SIDE), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)
    return np.asarray(image)


def _redrawn(grey: Grey, _: np.random.Generator, *, pen: ImageFilter.Filter) -> Grey:
    large = Image.fromarray(grey).resize((FINE * SIDE, FINE * SIDE), Image.Resampling.BICUBIC)
    return np.asarray(large.filter(pen).reduce(FINE))


def _inverted(grey: Grey, _: np.random.Generator) -> Grey:
    return 255 - grey


def _pale(grey: Grey, _: np.random.Generator) -> Grey:
    paper, ink = PALE
    return (paper + grey * ((ink - paper) / 255)).round().astype(np.uint8)


def _noisy(grey: Grey, rng: np.random.Generator) -> Grey:
    return (grey + rng.normal(0, NOISE, grey.shape)).round().clip(0, 255).astype(np.uint8)


def _blurred(grey: Grey, _: np.random.Generator) -> Grey:
    return np.asarray(Image.fromarray(grey).filter(ImageFilter.GaussianBlur(BLUR)))


def _shaded(grey: Grey, rng: np.random.Generator) -> Grey:
    """Brighter towards one side of the picture, ink and background alike."""
    angle = rng.uniform(0, 2 * np.pi)
    steps = np.linspace(-1, 1, SIDE)
    slope = np.cos(angle) * steps + np.sin(angle) * steps[:, None]
    light = SHADE * (slope - slope.min()) / np.ptp(slope)
    shaded: Grey = (light + grey * (1 - light / 255)).round().astype(np.uint8)
    return shaded


def _jpeg(grey: Grey, _: np.random.Generator) -> Grey:
    file = BytesIO()
    Image.fromarray(grey).save(file, "JPEG", quality=JPEG_QUALITY)
    return np.asarray(Image.open(file))


#: Name -> change, in the order of the table.
CHANGES: dict[str, Change] = {
    "as it is": _as_it_is,
    **{f"shifted {by} px": partial(_shifted, by=by) for by in (2, 4)},
    **{f"rotated {degrees:+}°": partial(_rotated, degrees=degrees) for degrees in (-30, -15, 15, 30)},
    **{f"scaled {factor}": partial(_scaled, factor=factor) for factor in (0.7, 0.85, 1.15, 1.3)},
    "thin": partial(_redrawn, pen=ImageFilter.MinFilter(5)),
    "thick": partial(_redrawn, pen=ImageFilter.MaxFilter(9)),
    "inverted": _inverted,
    "low contrast": _pale,
    "noise": _noisy,
    "blur": _blurred,
    "shading": _shaded,
    "JPEG": _jpeg,
}
