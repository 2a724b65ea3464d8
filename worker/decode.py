"""Bytes of a picture -> grey levels: what may be read, how much of it, and what transparency and colour become."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from shared.errors import TooManyPixels, UndecodableImage

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")

#: A JPEG is decoded at 1/2, 1/4 or 1/8 of its size while both sides keep this many pixels: libjpeg then computes
#: only the low frequencies of each 8x8 block, and a digit still covers several times the 20x20 box it ends in.
DRAFT_SIDE = 512

# Pillow's own guard has one limit for the whole process and warns before it refuses: ours is per call, and first.
Image.MAX_IMAGE_PIXELS = None


def decode(data: bytes, *, max_pixels: int) -> NDArray[np.uint8]:
    """Read a PNG, JPEG, WebP, GIF, BMP or TIFF (the first frame) as grey levels, upright, transparency filled in.

    Returns uint8 [H, W], 0 black to 255 white, Rec. 601 luma; a large JPEG comes at 1/2, 1/4 or 1/8 of its size.
    Raises `TooManyPixels` if the header announces more than `max_pixels`, before anything is decoded, and
    `UndecodableImage` for whatever else is wrong with the bytes; nothing else.
    """
    try:
        image = Image.open(BytesIO(data), formats=FORMATS)
        _check_size(image, max_pixels)
        image.draft("L", (DRAFT_SIDE, DRAFT_SIDE))
        ImageOps.exif_transpose(image, in_place=True)
        return np.asarray(_grey(image))
    except (TooManyPixels, UndecodableImage):
        raise
    except UnidentifiedImageError:
        raise UndecodableImage("The content is not a PNG, JPEG, WebP, GIF, BMP or TIFF picture") from None
    except Exception:  # damaged bytes make Pillow raise nearly anything: struct.error, IndexError, MemoryError
        raise UndecodableImage("The picture is damaged or incomplete") from None


def _check_size(image: Image.Image, max_pixels: int) -> None:
    pixels = image.width * image.height
    if pixels == 0:
        raise UndecodableImage("The picture has no pixels")
    if pixels > max_pixels:
        message = f"The picture has {image.width} x {image.height} pixels; at most {max_pixels} are allowed"
        raise TooManyPixels(message, limit=max_pixels)


def _grey(image: Image.Image) -> Image.Image:
    """Any mode -> "L"."""
    if image.mode == "L" and not image.has_transparency_data:
        return image
    if image.mode.startswith(("I", "F")):
        return Image.fromarray(_eight_bits(np.asarray(image)))
    if image.has_transparency_data:
        return _composite(image.convert("RGBA"))
    return image.getchannel("L") if image.mode == "LAB" else image.convert("L")


def _eight_bits(levels: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Deep grey -> uint8. White is 1 for floats in [0, 1], else the largest value of the fewest bits, 8 or more, that
    hold the picture, since a TIFF may keep 10 or 12 bits in 16; what is negative or not finite is black.
    """
    values = np.nan_to_num(levels.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0).clip(0)
    top = values.max()
    white = 1.0 if levels.dtype.kind == "f" and top <= 1 else 2.0 ** max(8, int(top).bit_length()) - 1
    return np.rint(values * (255 / white)).clip(0, 255).astype(np.uint8)


def _composite(image: Image.Image) -> Image.Image:
    """RGBA -> "L" on the background that the visible pixels ask for.

    A visible part that is large and holds light and dark is a picture on its own paper (say, with rounded corners): the
    rest is filled with its median. Otherwise the visible part is the ink, and gets black or white to contrast with it.
    """
    grey, alpha = image.convert("L"), image.getchannel("A")
    opacity = np.flatnonzero(alpha.histogram())
    if opacity[0] == 255:
        return grey
    visible = alpha.point([255 * bool(2 * a >= opacity[-1]) for a in range(256)])
    counts = np.array(grey.histogram(visible), dtype=np.float64)
    share, levels = counts / counts.sum(), np.arange(256)
    mean = share @ levels
    spread = (share @ (levels - mean) ** 2) ** 0.5
    if spread > 25 and 2 * counts.sum() > image.width * image.height:
        background = int(np.searchsorted(share.cumsum(), 0.5))
    else:
        background = 255 if mean < 128 else 0
    return Image.composite(grey, Image.new("L", image.size, background), alpha)
