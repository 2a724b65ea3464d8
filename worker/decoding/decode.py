"""Decodes the bytes of an uploaded picture to grey levels, within limits of pixels and effort."""

from __future__ import annotations

import warnings
from contextlib import nullcontext
from io import BytesIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from shared.errors import TooManyPixels, UndecodableImage
from worker.decoding import heif
from worker.decoding.colour import to_grey
from worker.decoding.jpeg import is_stored_as_rgb, scan_count, without_detail
from worker.decoding.tiff import silenced_stderr
from worker.image.arrays import Grey

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", *heif.FORMATS)

#: Formats with several frames or pages, the first of which may be blank. (HEIF names its primary picture.)
MULTI_FRAME_FORMATS = ("GIF", "WEBP", "PNG", "AVIF", "TIFF")
#: Frames searched for one that is not blank: one with levels further apart than BLANK.
MAX_FRAMES, BLANK = 16, 10

DAMAGED = "The picture is damaged or incomplete"

#: A JPEG is decoded at 1/2, 1/4 or 1/8 of its size while both sides keep this many pixels: libjpeg then computes
#: only the low frequencies of each 8x8 block, and a digit still covers several times the 20x20 box it ends in.
DRAFT_SIDE = 512
#: Each scan of a JPEG visits all of its blocks: 10 MB of scans over 50 megapixels would take five minutes. Encoders
#: write a dozen; libjpeg-turbo's own fuzzers stop at this number. (65,536 bytes of coded data hold one by chance.)
MAX_SCANS = 500
#: A JPEG with more scans is never decoded at its full size.
FEW_SCANS = 32

# Python keeps each warning that it has shown, and a damaged TIFF makes any number of different ones.
warnings.filterwarnings("ignore", module=r"PIL\.")


def decode(data: bytes, *, max_pixels: int, whole: bool = False) -> Grey:
    """Decode a picture in one of `FORMATS` to grey levels: upright, the first frame with ink, transparency filled in.

    Returns uint8 [H, W], 0 black to 255 white, Rec. 601 luma. A large JPEG comes at 1/2, 1/4 or 1/8 of its size,
    unless `whole`.
    Raises `TooManyPixels` if the header announces more than `max_pixels`, before anything is decoded, and
    `UndecodableImage` for all other defects; nothing else.
    """
    # `_check_size` is exact. Pillow's own limit is twice as high but acts earlier: Pillow prepares the first frame of a
    # GIF when it opens the file. It holds for the whole process, and for pictures that we draw, so it is never small.
    Image.MAX_IMAGE_PIXELS = max(max_pixels, 1_000_000)
    try:
        return _decode(data, max_pixels, whole)
    except (TooManyPixels, UndecodableImage):
        raise
    except Image.DecompressionBombError:
        raise TooManyPixels(f"The picture has more than {max_pixels} pixels", limit=max_pixels) from None
    except UnidentifiedImageError:
        if heif.has_known_brand(data):  # Pillow recognises such a file only if it is complete
            raise UndecodableImage(DAMAGED) from None
        heic = "HEIC, " * ("HEIF" in FORMATS)
        message = f"The content is not a PNG, JPEG, WebP, AVIF, {heic}GIF, BMP or TIFF picture"
        raise UndecodableImage(message) from None
    except Exception:  # Pillow raises nearly anything for damaged bytes: struct.error, IndexError, MemoryError
        raise UndecodableImage(DAMAGED) from None


def _decode(data: bytes, max_pixels: int, whole: bool) -> Grey:
    image = Image.open(BytesIO(data), formats=FORMATS)
    _check_size(image, max_pixels)
    _check_effort(image, data, max_pixels)
    whole = whole and scan_count(data) <= FEW_SCANS
    if image.format == "JPEG" and min(image.size) >= 4 * DRAFT_SIDE and not whole:
        image = Image.open(BytesIO(without_detail(data)), formats=FORMATS)
    size = image.size if whole else (DRAFT_SIDE, DRAFT_SIDE)
    image.draft("L" if is_stored_as_rgb(image) else "YCbCr", size)
    with silenced_stderr() if image.format == "TIFF" else nullcontext():
        if image.format in MULTI_FRAME_FORMATS and getattr(image, "is_animated", False):
            _seek_frame_with_ink(image, data, max_pixels)
        ImageOps.exif_transpose(image, in_place=True)
        return np.asarray(to_grey(image))


def _check_size(image: Image.Image, max_pixels: int) -> None:
    pixels = image.width * image.height
    if pixels == 0:
        raise UndecodableImage("The picture has no pixels")
    if pixels > max_pixels:
        message = f"The picture has {image.width} x {image.height} pixels; at most {max_pixels} are allowed"
        raise TooManyPixels(message, limit=max_pixels)


def _check_effort(image: Image.Image, data: bytes, max_pixels: int) -> None:
    """Refuse small pictures that take much work: oversized TIFF tiles, cropped HEIF pictures, too many JPEG scans."""
    if image.format == "TIFF":
        width, height = (image.tag_v2.get(tag, 0) for tag in (322, 323))  # type: ignore[attr-defined]
        if width * height > max_pixels:
            message = f"The picture has tiles of {width} x {height} pixels; at most {max_pixels} are allowed"
            raise TooManyPixels(message, limit=max_pixels)
    elif image.format in heif.FORMATS:
        if coded := next((size for size in heif.coded_sizes(data) if size[0] * size[1] > max_pixels), None):
            message = f"The picture is cut from {coded[0]} x {coded[1]} pixels; at most {max_pixels} are allowed"
            raise TooManyPixels(message, limit=max_pixels)
    elif data.startswith(b"\xff\xd8") and scan_count(data) > MAX_SCANS:
        raise UndecodableImage("The picture has too many scans")


def _seek_frame_with_ink(image: Image.Image, data: bytes, max_pixels: int) -> None:
    """Seek the first frame that is not blank, or the first frame if none is found.

    The frames looked at have at most `max_pixels` pixels together.
    """
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
        if np.ptp(np.asarray(to_grey(image))) > BLANK:
            return
    image.seek(0)
