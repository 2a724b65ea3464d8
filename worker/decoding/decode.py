"""Bytes of a picture -> grey levels: what may be read, how much of it, and what transparency and colour become."""

from __future__ import annotations

import re
import warnings
from contextlib import nullcontext
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageOps, UnidentifiedImageError

from shared.errors import TooManyPixels, UndecodableImage
from worker.decoding import heif
from worker.decoding.deep import eight_bits
from worker.decoding.ground import on_ground
from worker.decoding.stderr import without_stderr

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", *heif.FORMATS)

#: Formats of several frames or pages, of which the first may be blank; so many are looked at, and no level of a blank
#: one is so far from another. (Of a HEIF the primary picture counts, whatever else is in it.)
SERIES, MAX_FRAMES, BLANK = ("GIF", "WEBP", "PNG", "AVIF", "TIFF"), 16, 10

DAMAGED = "The picture is damaged or incomplete"

#: A JPEG is decoded at 1/2, 1/4 or 1/8 of its size while both sides keep this many pixels: libjpeg then computes
#: only the low frequencies of each 8x8 block, and a digit still covers several times the 20x20 box it ends in.
DRAFT_SIDE = 512

#: Rec. 601: what red, green and blue add to luma.
LUMA = np.array([0.299, 0.587, 0.114])
#: Each scan of a JPEG goes over all of its blocks: with 10 MB of scans, 50 megapixels would take five minutes. Encoders
#: write a dozen; libjpeg-turbo's own fuzzers stop here. (A film behind the picture has one by chance in 65,536 bytes.)
MAX_SCANS = 500
#: With more than these a JPEG is never read in all its detail.
FEW_SCANS = 32
#: Colour is looked at in a picture about as large as this; the projection that tells more replaces luma if it has this
#: many times its contrast (independent noise in the channels alone gives 1.5), and a standard deviation of so many
#: levels, below which the colours of a JPEG are noise.
COLOUR_SIDE, COLOUR_GAIN, MIN_COLOUR = 128, 2.0, 3.0
_SCAN = b"\xff\xda"
#: The next marker of a JPEG that is no part of coded data.
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")

# Python remembers each warning that it has shown, for ever, and a damaged TIFF makes any number of different ones.
warnings.filterwarnings("ignore", module=r"PIL\.")


def decode(data: bytes, *, max_pixels: int, whole: bool = False) -> NDArray[np.uint8]:
    """Read a picture of `FORMATS` (the first frame with ink) as grey levels, upright, transparency filled in.

    Returns uint8 [H, W], 0 black to 255 white, Rec. 601 luma; a large JPEG comes at 1/2, 1/4 or 1/8 of its size,
    unless `whole`.
    Raises `TooManyPixels` if the header announces more than `max_pixels`, before anything is decoded, and
    `UndecodableImage` for whatever else is wrong with the bytes; nothing else.
    """
    # Ours is the exact one. Pillow's refuses twice as many, but sooner: it prepares a GIF's first frame as it opens it.
    # It is the whole process's, and bounds what is drawn too, so it is never small.
    Image.MAX_IMAGE_PIXELS = max(max_pixels, 1_000_000)
    try:
        image = Image.open(BytesIO(data), formats=FORMATS)
        _check_size(image, max_pixels)
        _check_effort(image, data, max_pixels)
        whole = whole and data.count(_SCAN) <= FEW_SCANS
        if image.format == "JPEG" and min(image.size) >= 4 * DRAFT_SIDE and not whole:
            image = Image.open(BytesIO(_without_detail(data)), formats=FORMATS)
        size = image.size if whole else (DRAFT_SIDE, DRAFT_SIDE)
        image.draft("L" if _is_stored_as_rgb(image) else "YCbCr", size)
        with without_stderr() if image.format == "TIFF" else nullcontext():
            if image.format in SERIES and getattr(image, "is_animated", False):
                _turn_to_ink(image, data, max_pixels)
            ImageOps.exif_transpose(image, in_place=True)
            return np.asarray(_grey(image))
    except (TooManyPixels, UndecodableImage):
        raise
    except Image.DecompressionBombError:
        raise TooManyPixels(f"The picture has more than {max_pixels} pixels", limit=max_pixels) from None
    except UnidentifiedImageError:
        if heif.claims_to_be(data):  # Pillow wants to see all of such a file before it knows it
            raise UndecodableImage(DAMAGED) from None
        heic = "HEIC, " * ("HEIF" in FORMATS)
        message = f"The content is not a PNG, JPEG, WebP, AVIF, {heic}GIF, BMP or TIFF picture"
        raise UndecodableImage(message) from None
    except Exception:  # damaged bytes make Pillow raise nearly anything: struct.error, IndexError, MemoryError
        raise UndecodableImage(DAMAGED) from None


def _is_stored_as_rgb(image: Image.Image) -> bool:
    """A rare JPEG: by Adobe's marker, or by the names of its components. libjpeg makes "L" of it, but no "YCbCr"."""
    names = [name for name, *_ in getattr(image, "layer", ())]
    return image.info.get("adobe_transform") == 0 or names == list(b"RGB")


def _check_size(image: Image.Image, max_pixels: int) -> None:
    pixels = image.width * image.height
    if pixels == 0:
        raise UndecodableImage("The picture has no pixels")
    if pixels > max_pixels:
        message = f"The picture has {image.width} x {image.height} pixels; at most {max_pixels} are allowed"
        raise TooManyPixels(message, limit=max_pixels)


def _check_effort(image: Image.Image, data: bytes, max_pixels: int) -> None:
    """Refuses what makes much work of few pixels: tiles larger than any picture, a large picture of which little is
    shown, and scans without end.
    """
    if image.format == "TIFF":
        width, height = (image.tag_v2.get(tag, 0) for tag in (322, 323))  # type: ignore[attr-defined]
        if width * height > max_pixels:
            message = f"The picture has tiles of {width} x {height} pixels; at most {max_pixels} are allowed"
            raise TooManyPixels(message, limit=max_pixels)
    elif image.format in heif.FORMATS:
        if coded := next((size for size in heif.coded_sizes(data) if size[0] * size[1] > max_pixels), None):
            message = f"The picture is cut from {coded[0]} x {coded[1]} pixels; at most {max_pixels} are allowed"
            raise TooManyPixels(message, limit=max_pixels)
    elif data.startswith(b"\xff\xd8") and data.count(_SCAN) > MAX_SCANS:
        raise UndecodableImage("The picture has too many scans")


def _turn_to_ink(image: Image.Image, data: bytes, max_pixels: int) -> None:
    """Seeks the first frame that is not blank, in no more pixels than one picture may have; the first if all are."""
    left = max_pixels
    for frame in range(MAX_FRAMES):
        try:
            image.seek(frame)
        except EOFError:
            break
        _check_size(image, max_pixels)
        _check_effort(image, data, max_pixels)
        left -= image.width * image.height
        if left < 0:
            break
        if np.ptp(np.asarray(_grey(image))) > BLANK:
            return
    image.seek(0)


def _without_detail(data: bytes) -> bytes:
    """A progressive JPEG without the scans that refine it or add fine colour; anything else as it is.

    At a quarter of the size they do not show: the last bits of the frequencies, and all but the mean of colours. They
    are most of the bytes, and each scan goes over all blocks of the picture. (ITU-T T.81, annexes B.1 and G.)
    """
    kept, at, luma = [data[:2]], 2, None
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xD9:
        kind, end = data[at + 1], at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        wanted = True
        if kind == 0xC2:  # the head of a progressive picture: its size, then its components, brightness first
            luma = data[at + 10 : at + 11]
        elif kind == 0xDA:  # a scan: its components, its first frequency, its last, and its bits
            first, bits = data[end - 3 : end - 2], data[end - 1 : end]
            wanted = first == b"\0" or (bits < b"\x10" and data[at + 5 : at + 6] == luma)
            following = _MARKER.search(data, end)
            end = following.start() if following else len(data)
        if wanted:
            kept.append(data[at:end])
        at = end
    whole = luma is not None and data[at : at + 2] == b"\xff\xd9"
    return b"".join(kept) + data[at:] if whole else data


def _grey(image: Image.Image) -> Image.Image:
    """Any mode -> "L": luma, unless the ink is a colour that luma hardly tells from the paper's."""
    if image.mode == "L" and not image.has_transparency_data:
        return image
    if image.mode.startswith(("I", "F")):
        return Image.fromarray(eight_bits(np.asarray(image)))
    if image.has_transparency_data:
        return _composite(image.convert("RGBA"))
    if image.mode == "LAB":
        return image.getchannel("L")
    weights = _telling_weights(image) if image.mode in ("P", "RGB", "YCbCr") else None
    if weights is not None:
        return image.convert("RGB").convert("L", weights)
    return image.getchannel("Y") if image.mode == "YCbCr" else image.convert("L")


def _telling_weights(image: Image.Image) -> tuple[float, float, float, float] | None:
    """What to multiply red, green and blue with, and what to add, to tell ink from paper; None if luma does as well.

    The first principal component of what is left of a small copy without its own blur: strokes, but no slow shading.
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
    """RGBA -> "L". An alpha of 0 everywhere hides nothing: programs that know no alpha leave it so (the clipboard)."""
    alpha = image.getchannel("A")
    least, most = alpha.getextrema()
    if least == 255 or most == 0:
        return _grey(image.convert("RGB"))
    return on_ground(image.convert("L"), alpha)
