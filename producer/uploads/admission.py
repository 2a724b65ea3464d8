"""Validates an uploaded image by its header, before a byte is stored. Pixels are decoded by the worker alone."""

from __future__ import annotations

import re
from pathlib import PurePosixPath, PureWindowsPath

from producer.uploads import headers, kinds
from shared.amounts import in_bytes, in_pixels
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
#: The same for files that begin with a `ftyp` box: brand by brand. `mif1` and `msf1` leave the codec open.
BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), ("AVIF", "image/avif")),
    **dict.fromkeys(
        (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1"),
        ("HEIC", "image/heic"),
    ),
}
#: The formats that are read, as they are named to people.
SUPPORTED = "PNG, JPEG, WebP, GIF, BMP, TIFF, AVIF and HEIC"
#: The compatible brands of a file that are looked at.
MAX_BRANDS = 32
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_DRIVE = re.compile(r"^[A-Za-z]:")


def admit(data: bytes, settings: Settings) -> str:
    """Return the media type of a valid upload.

    Raises NoImage, TooLarge, UnsupportedType, UndecodableImage, TooManyPixels.
    """
    if not data:
        raise NoImage()
    if len(data) > settings.max_upload_bytes:
        raise too_large(settings)
    format, media = image_format(data)
    try:
        width, height = headers.size(data, format)
    except ValueError as error:
        raise UndecodableImage(f"The header of the {format} image is broken: send the whole, undamaged file") from error
    if width < 1 or height < 1:
        raise UndecodableImage("The image has no pixels")
    if width * height > settings.max_pixels:
        raise too_many_pixels(width, height, settings)
    return media


def too_large(settings: Settings) -> TooLarge:
    """Return the error for an upload over the limit."""
    return TooLarge(
        f"The file exceeds the limit of {in_bytes(settings.max_upload_bytes)}", limit=settings.max_upload_bytes
    )


def too_many_pixels(width: int, height: int, settings: Settings) -> TooManyPixels:
    """Return the error for a picture over the limit."""
    have, most = in_pixels(width * height), in_pixels(settings.max_pixels)
    return TooManyPixels(f"{width} x {height} are {have}, the limit is {most}", limit=settings.max_pixels)


def media_type(data: bytes) -> str:
    """Return the media type of an image, for its download."""
    try:
        return image_format(data)[1]
    except UnsupportedType:
        return "application/octet-stream"


def image_format(data: bytes) -> tuple[str, str]:
    """Return the format's name and media type, by content: the file's name and declared type are ignored."""
    for signature, found in SIGNATURES.items():
        if data.startswith(signature) and (signature != b"RIFF" or data[8:12] == b"WEBP"):
            return found
    if data[4:8] == b"ftyp" and data[8:12] in BRANDS:
        brands = data[16 : min(int.from_bytes(data[:4], "big"), 16 + 4 * MAX_BRANDS)]
        is_avif = any(brands[at : at + 4] in (b"avif", b"avis") for at in range(0, len(brands), 4))
        return BRANDS[b"avif" if is_avif and data[8:12] in (b"mif1", b"msf1") else data[8:12]]
    what, remedy = kinds.kind(data)
    why = f"This is {what}, which is not supported: {remedy}." if what else "This is no image in a known format."
    raise UnsupportedType(f"{why} Supported formats: {SUPPORTED}")


def is_image(data: bytes) -> bool:
    """Tells whether a file begins like an image that is read."""
    return media_type(data) != "application/octet-stream"


def clean_path(path: str) -> str:
    """The relative path of a file in a folder or a zip, to show and never to open: the last 255 characters at most.

    Parts are separated by `/`; the root, drives, `.` and `..` are left out, and so are control characters.

    >>> clean_path(r"C:\\scans\\..\\a\\3.png")
    'scans/a/3.png'
    """
    path = _DRIVE.sub("", _CONTROL.sub("", path.encode("utf-8", "replace").decode()).replace("\\", "/"))
    return "/".join(part for part in path.split("/") if part.strip(" ") not in ("", ".", ".."))[-255:].lstrip("/")


def clean_filename(name: str | None) -> str:
    """A name to show, never a path: the last part, without control characters, 255 characters at most."""
    if not name:
        return ""
    last = PureWindowsPath(PurePosixPath(name).name).name
    return _CONTROL.sub("", last.encode("utf-8", "replace").decode())[:255]
