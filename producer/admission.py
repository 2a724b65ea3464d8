"""The door: what is refused before a byte is stored. Only headers are read here, pixels are the worker's business."""

from __future__ import annotations

import re
from pathlib import PurePosixPath, PureWindowsPath

from producer import headers
from shared.errors import NoImage, TooLarge, TooManyPixels, UndecodableImage, UnsupportedType
from shared.settings import Settings

#: Formats on the allow-list by how they begin: Pillow's name and the media type. The worker's decoder reads the same.
SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": ("PNG", "image/png"),
    b"\xff\xd8\xff": ("JPEG", "image/jpeg"),
    b"RIFF": ("WEBP", "image/webp"),
    b"GIF8": ("GIF", "image/gif"),
    b"BM": ("BMP", "image/bmp"),
    b"II*\0": ("TIFF", "image/tiff"),
    b"MM\0*": ("TIFF", "image/tiff"),
}
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def admit(data: bytes, settings: Settings) -> str:
    """The media type of an upload that may enter.

    Raises NoImage, TooLarge, UnsupportedType, UndecodableImage, TooManyPixels.
    """
    if not data:
        raise NoImage()
    if len(data) > settings.max_upload_bytes:
        raise too_large(settings)
    format, media = _format(data)
    try:
        width, height = headers.size(data, format)
    except ValueError as error:
        raise UndecodableImage("The image's header is broken") from error
    if width < 1 or height < 1:
        raise UndecodableImage("The image has no pixels")
    if width * height > settings.max_pixels:
        raise TooManyPixels(f"{width} x {height} pixels", limit=settings.max_pixels)
    return media


def too_large(settings: Settings) -> TooLarge:
    """The error for an upload over the limit, with the limit in it."""
    return TooLarge(f"An upload may have {settings.max_upload_bytes} bytes", limit=settings.max_upload_bytes)


def media_type(data: bytes) -> str:
    """What the bytes are, for handing them out again."""
    try:
        return _format(data)[1]
    except UnsupportedType:
        return "application/octet-stream"


def _format(data: bytes) -> tuple[str, str]:
    """Pillow's name and the media type. The name and the declared type of the upload play no part."""
    for signature, found in SIGNATURES.items():
        if data.startswith(signature) and (signature != b"RIFF" or data[8:12] == b"WEBP"):
            return found
    raise UnsupportedType(f"Supported are {', '.join(sorted({name for name, _ in SIGNATURES.values()}))}")


def clean_filename(name: str | None) -> str:
    """A name to show, never a path: the last part, without control characters, 255 characters at most."""
    if not name:
        return ""
    last = PureWindowsPath(PurePosixPath(name).name).name
    return _CONTROL.sub("", last.encode("utf-8", "replace").decode())[:255]
