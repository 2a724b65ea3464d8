"""The door: what is refused before a byte is stored. Only headers are read here, pixels are the worker's business."""

from __future__ import annotations

import re
from io import BytesIO
from pathlib import PurePosixPath, PureWindowsPath

from PIL import Image, UnidentifiedImageError

from shared.errors import NoImage, TooLarge, TooManyPixels, UndecodableImage, UnsupportedType
from shared.settings import Settings

#: Formats on the allow-list, and their media types. The worker's decoder reads the same ones.
MEDIA_TYPES = {
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "MPO": "image/jpeg",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "BMP": "image/bmp",
    "TIFF": "image/tiff",
}
#: Pillow's own limit warns and raises by itself; ours is checked below, from the header.
Image.MAX_IMAGE_PIXELS = None

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def admit(data: bytes, settings: Settings) -> str:
    """The media type of an upload that may enter.

    Raises NoImage, TooLarge, UnsupportedType, UndecodableImage, TooManyPixels.
    """
    if not data:
        raise NoImage()
    if len(data) > settings.max_upload_bytes:
        raise too_large(settings)
    format, width, height = _header(data)
    if width * height > settings.max_pixels:
        raise TooManyPixels(f"{width} x {height} pixels", limit=settings.max_pixels)
    return MEDIA_TYPES[format]


def too_large(settings: Settings) -> TooLarge:
    """The error for an upload over the limit, with the limit in it."""
    return TooLarge(f"An upload may have {settings.max_upload_bytes} bytes", limit=settings.max_upload_bytes)


def media_type(data: bytes) -> str:
    """What the bytes are, for handing them out again."""
    try:
        return MEDIA_TYPES[_header(data)[0]]
    except (UnsupportedType, UndecodableImage):
        return "application/octet-stream"


def _header(data: bytes) -> tuple[str, int, int]:
    """Format, width, height. The name and the declared type of the upload play no part."""
    try:
        with Image.open(BytesIO(data), formats=[name for name in MEDIA_TYPES if name != "MPO"]) as image:
            format, (width, height) = image.format, image.size
    except UnidentifiedImageError as error:
        raise UnsupportedType(f"Supported are {', '.join(sorted(set(MEDIA_TYPES) - {'MPO'}))}") from error
    except Exception as error:  # Pillow raises whatever its parsers raise: struct.error, SyntaxError, ValueError, ...
        raise UndecodableImage("The image's header is broken") from error
    if format not in MEDIA_TYPES or width < 1 or height < 1:
        raise UndecodableImage("The image's header is broken")
    return format, width, height


def clean_filename(name: str | None) -> str:
    """A name to show, never a path: the last part, without control characters, 255 characters at most."""
    last = PureWindowsPath(PurePosixPath(name or "").name).name
    return _CONTROL.sub("", last.encode("utf-8", "replace").decode())[:255]
