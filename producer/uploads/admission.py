"""Takes the image out of an upload, and validates it by its header. Pixels are decoded by the worker alone.

An image may be embedded in text: in a data URL, or as base64 in a JSON object.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import orjson

from producer.uploads import headers, kinds
from shared.amounts import in_pixels
from shared.errors import (
    BadRequest,
    InvalidBase64,
    NoImage,
    TooLarge,
    TooManyPixels,
    UndecodableImage,
    UnexpectedField,
    UnsupportedType,
)
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
#: The members of the JSON object.
FIELDS = ("image", "filename")
#: What may be around the base64: the other members, the head of a data URL, spaces.
OVERHEAD_BYTES = 64 * 1024
#: Quotes, brackets and commas that the JSON may have: it has about ten, and each may cost a hundred bytes of memory.
MAX_TOKENS = 1000
STRINGS = "`image` and `filename` of the JSON object are strings"
_BLANK = b"\xef\xbb\xbf \t\r\n"
#: What of base64 is escaped in a URL.
_ESCAPES = [(f"%{code:{case}}".encode(), bytes((code,))) for code in b"+/=\r\n" for case in ("02X", "02x")]
#: The alphabet for URLs (RFC 4648, 5), in terms of the usual one.
_USUAL = bytes.maketrans(b"-_", b"+/")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_DRIVE = re.compile(r"^[A-Za-z]:")


def admit(data: bytes, settings: Settings) -> str:
    """Return the media type of a valid upload.

    Raises NoImage, TooLarge, UnsupportedType, UndecodableImage, TooManyPixels.
    """
    if not data:
        raise NoImage()
    if len(data) > settings.max_upload_bytes:
        raise TooLarge.upload(settings.max_upload_bytes)
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


# ---------------------------------------------------------------------- images in text


def text_limit(settings: Settings) -> int:
    """Bytes that the body of a single upload may have: the largest image as base64, its line breaks and escapes."""
    return settings.max_upload_bytes * 3 // 2 + OVERHEAD_BYTES


def unwrapped(data: bytes, filename: str, settings: Settings) -> tuple[bytes, str]:
    """Extract the image and its name from a JSON object or a data URL; return anything else unchanged.

    Raises BadRequest, UnexpectedField, NoImage, InvalidBase64, TooLarge.
    """
    if data[:64].lstrip(_BLANK).startswith(b"{"):
        return _from_json(data.lstrip(_BLANK), filename, settings)
    return from_data_url(data, settings), filename


def from_data_url(data: bytes, settings: Settings) -> bytes:
    """The image in a data URL (RFC 2397); anything else as it is. Raises InvalidBase64, TooLarge."""
    if data[:64].lstrip(_BLANK)[:5].lower() != b"data:":
        return data
    head, comma, text = data.partition(b",")
    if not comma or not head.rstrip().lower().endswith(b";base64"):
        raise InvalidBase64("A data URL is read if it is `data:image/png;base64,` and then base64")
    if b"%" in text:  # urllib's `unquote` takes a second for 256 KB of them
        for escaped, meant in _ESCAPES:
            text = text.replace(escaped, meant)
    return _decoded(text, settings)


def _from_json(data: bytes, filename: str, settings: Settings) -> tuple[bytes, str]:
    if sum(data.count(token) for token in b'"[{,') > MAX_TOKENS:
        raise BadRequest(f"{STRINGS}, and there is nothing else in it")
    try:
        body: dict[str, Any] = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"The JSON body is malformed: {error}") from error
    for field in body:
        if field not in FIELDS:
            raise UnexpectedField(
                f"The JSON object has a member `{field[:50]}`: it may have `image` (base64 or a data URL) and "
                "`filename`. Parameters such as `priority` belong in the query"
            )
    image, name = body.get("image"), body.get("filename")
    if not image:
        raise NoImage("The JSON object has no `image`: the image as base64, or as a data URL")
    if not isinstance(image, str) or not isinstance(name, str | None):
        raise BadRequest(STRINGS)
    if image.startswith(("http://", "https://")):
        raise InvalidBase64("`image` is base64 or a data URL: addresses are not fetched")
    text = image.encode("utf-8", "replace")
    found = from_data_url(text, settings)
    return _decoded(text, settings) if found is text else found, clean_filename(name) or filename


def _decoded(text: bytes, settings: Settings) -> bytes:
    """Base64 of either alphabet, with or without line breaks and padding. Raises InvalidBase64, TooLarge."""
    text = text.strip().translate(_USUAL, b"\r\n").rstrip(b"=")
    if len(text) * 3 // 4 > settings.max_upload_bytes:
        raise TooLarge.upload(settings.max_upload_bytes)
    try:
        return b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error as error:
        raise InvalidBase64(f"The base64 of the image is broken: {error}") from error
