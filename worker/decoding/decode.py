"""Decodes the bytes of an uploaded picture to grey levels, within limits of pixels and effort."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from io import BytesIO
from typing import NamedTuple

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
#: A page of numbers is decoded to at most PAGE_SIDE pixels along its longer side, a JPEG to LEAST_PAGE_SIDE at least if
#: it has them: 12 megapixels come at half their size, where the digits of a full page are 40 pixels high and more.
PAGE_SIDE, LEAST_PAGE_SIDE = 2400, 1800
#: The tag of the orientation in EXIF, and the values with which width and height change places.
ORIENTATION, SIDEWAYS = 0x0112, (5, 6, 7, 8)
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
    with _named_errors(data, max_pixels):
        image = _opened(data, max_pixels)
        whole = whole and scan_count(data) <= FEW_SCANS
        if image.format == "JPEG" and min(image.size) >= 4 * DRAFT_SIDE and not whole:
            image = Image.open(BytesIO(without_detail(data)), formats=FORMATS)
        return np.asarray(_decoded(image, data, max_pixels, image.size if whole else (DRAFT_SIDE, DRAFT_SIDE)))


class Page(NamedTuple):
    """A decoded page."""

    #: uint8 [H, W], at most PAGE_SIDE pixels high and wide.
    grey: Grey
    #: Width and height of the upright upload.
    size: tuple[int, int]


def decode_page(picture: bytes | Grey, *, max_pixels: int) -> Page:
    """Decode a picture to be read as a page of numbers, as `decode` does otherwise. Raises what `decode` raises.

    Grey levels uint8 [H, W] are taken as they are.
    """
    if not isinstance(picture, bytes):
        return Page(picture, (picture.shape[1], picture.shape[0]))
    with _named_errors(picture, max_pixels):
        image = _opened(picture, max_pixels)
        width, height = image.size
        share = min(1, LEAST_PAGE_SIDE / max(image.size))
        size = (int(width * share), int(height * share))
        if scan_count(picture) > FEW_SCANS:
            size = (DRAFT_SIDE, DRAFT_SIDE)
        grey = _decoded(image, picture, max_pixels, size)
        turned = (grey.width > grey.height) != (width > height)
        if (factor := PAGE_SIDE / max(grey.size)) < 1:
            reduced = max(1, round(grey.width * factor)), max(1, round(grey.height * factor))
            grey = grey.resize(reduced, Image.Resampling.BOX)
        return Page(np.asarray(grey), (height, width) if turned else (width, height))


def upright_size(picture: bytes | Grey) -> tuple[int, int]:
    """Return width and height of a picture that can be decoded, upright; of uint8 [H, W] as they are."""
    if not isinstance(picture, bytes):
        return picture.shape[1], picture.shape[0]
    image = Image.open(BytesIO(picture), formats=FORMATS)
    width, height = image.size
    if image.format == "PNG" and "exif" not in image.info:  # to look for it behind the pixels, Pillow would decode them
        return width, height
    return (height, width) if image.getexif().get(ORIENTATION) in SIDEWAYS else (width, height)


@contextmanager
def _named_errors(data: bytes, max_pixels: int) -> Iterator[None]:
    """Turn all that Pillow raises into `TooManyPixels` or `UndecodableImage`."""
    # `_check_size` is exact. Pillow's own limit is twice as high but acts earlier: Pillow prepares the first frame of a
    # GIF when it opens the file. It holds for the whole process, and for pictures that we draw, so it is never small.
    Image.MAX_IMAGE_PIXELS = max(max_pixels, 1_000_000)
    try:
        yield
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


def _opened(data: bytes, max_pixels: int) -> Image.Image:
    image = Image.open(BytesIO(data), formats=FORMATS)
    _check_size(image, max_pixels)
    _check_effort(image, data, max_pixels)
    return image


def _decoded(image: Image.Image, data: bytes, max_pixels: int, size: tuple[int, int]) -> Image.Image:
    """Decode an opened picture to "L", upright; a JPEG may come reduced as long as both sides reach `size`."""
    image.draft("L" if is_stored_as_rgb(image) else "YCbCr", size)
    with silenced_stderr() if image.format == "TIFF" else nullcontext():
        if image.format in MULTI_FRAME_FORMATS and getattr(image, "is_animated", False):
            _seek_frame_with_ink(image, data, max_pixels)
        ImageOps.exif_transpose(image, in_place=True)
        return to_grey(image)


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
