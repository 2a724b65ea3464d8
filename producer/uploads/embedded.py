"""Reads an image that is embedded in text: a data URL, or base64 in a JSON object."""

from __future__ import annotations

import binascii
from base64 import b64decode
from typing import Any

import orjson

from producer.uploads.admission import clean_filename
from shared.errors import BadRequest, InvalidBase64, NoImage, TooLarge, UnexpectedField
from shared.settings import Settings

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
