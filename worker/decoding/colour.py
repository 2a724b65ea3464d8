"""Converts decoded pictures of any mode to grey levels in which ink stands out from paper."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

from worker.decoding.bit_depth import to_8_bit
from worker.decoding.transparency import flatten

#: Weights of red, green and blue in luma (ITU-R BT.601).
LUMA = np.array([0.299, 0.587, 0.114])
#: Colour is analysed on a copy whose longer side has about this many pixels.
COLOUR_SIDE = 128
#: A projection of the colours replaces luma if it has this many times luma's contrast (independent noise in the
#: channels alone gives 1.5) ...
COLOUR_GAIN = 2.0
#: ... and at least this standard deviation in grey levels: below it the colours of a JPEG are noise.
MIN_COLOUR = 3.0


def to_grey(image: Image.Image) -> Image.Image:
    """Convert a picture of any mode to "L": luma, unless ink and paper differ in colour and hardly in luma."""
    if image.mode == "L" and not image.has_transparency_data:
        return image
    if image.mode.startswith(("I", "F")):
        return Image.fromarray(to_8_bit(np.asarray(image)))
    if image.has_transparency_data:
        return _composite(image.convert("RGBA"))
    if image.mode == "LAB":
        return image.getchannel("L")
    weights = _contrast_weights(image) if image.mode in ("P", "RGB", "YCbCr") else None
    if weights is not None:
        return image.convert("RGB").convert("L", weights)
    return image.getchannel("Y") if image.mode == "YCbCr" else image.convert("L")


def _contrast_weights(image: Image.Image) -> tuple[float, float, float, float] | None:
    """Return weights of red, green and blue, and an offset, that separate ink from paper; None if luma does as well.

    They are the first principal component of a small copy minus its own blur: that leaves strokes, and no slow shading.
    """
    factor = max(1, max(image.size) // COLOUR_SIDE)
    small = image.reduce(factor) if factor > 1 and image.mode != "P" else image
    small = small.convert("RGB") if small.mode != "RGB" else small
    levels = np.asarray(small).reshape(-1, 3)
    if np.array_equal(levels[:, 0], levels[:, 1]) and np.array_equal(levels[:, 1], levels[:, 2]):
        return None
    blurred = np.asarray(small.filter(ImageFilter.BoxBlur(max(small.size) // 6))).reshape(-1, 3)
    covariance = np.cov(levels.astype(np.float32) - blurred, rowvar=False, bias=True)
    main = np.linalg.eigh(covariance)[1][:, -1]
    weights = main / np.abs(main).sum()
    weights = weights if weights @ LUMA >= 0 else -weights
    contrast, in_luma = ((w @ covariance @ w) ** 0.5 for w in (weights, LUMA))
    if contrast < COLOUR_GAIN * in_luma or contrast < MIN_COLOUR:
        return None
    red, green, blue = weights.tolist()
    return red, green, blue, -255 * float(np.minimum(weights, 0).sum())


def _composite(image: Image.Image) -> Image.Image:
    """Convert "RGBA" to "L". An alpha of 0 everywhere is ignored: programs without alpha write it to the clipboard."""
    alpha = image.getchannel("A")
    least, most = alpha.getextrema()
    if least == 255 or most == 0:
        return to_grey(image.convert("RGB"))
    return flatten(image.convert("L"), alpha)
