"""Width and height of a picture, read from its head. No decoder touches the bytes before a worker does, and the work is
bounded: a head of a few megabytes that is made to be slow keeps Pillow busy for seconds.

Sources: PNG 11.2.2; ITU-T T.81, B.1; RFC 9649; GIF89a, 18; TIFF 6.0, section 2; BITMAPCOREHEADER and BITMAPINFOHEADER.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

Size = tuple[int, int]

#: Segments in front of a JPEG's size. A colour profile or an EXIF record of a megabyte takes 16.
MAX_SEGMENTS = 10_000
#: As libjpeg looks for them: past what is between two segments, and past fill bytes.
_MARKER = re.compile(rb"\xff+([\x01-\xfe])")
_FRAME_HEADS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ALONE = frozenset(range(0xD0, 0xDA)) | {0x01}


def size(data: bytes, format: str) -> Size:
    """Width and height that the head of a file of this format announces. Raises ValueError if there are none."""
    try:
        return READERS[format](data)
    except (struct.error, IndexError) as error:  # it ends before its size
        raise ValueError("no size") from error


def _png(data: bytes) -> Size:
    if data[12:16] != b"IHDR":
        raise ValueError("no head")
    return struct.unpack_from(">II", data, 16)


def _gif(data: bytes) -> Size:
    return struct.unpack_from("<HH", data, 6)


def _bmp(data: bytes) -> Size:
    [length] = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if length == 12 else "<ii", data, 18)
    return width, abs(height)  # the rows of a negative height come from top to bottom


def _webp(data: bytes) -> Size:
    kind = data[12:16]
    if kind == b"VP8X":
        data[29]
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L":
        [bits] = struct.unpack_from("<I", data, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise ValueError("no picture")


def _jpeg(data: bytes) -> Size:
    at = 2
    for _ in range(MAX_SEGMENTS):
        marker = _MARKER.search(data, at)
        if marker is None:
            break
        kind, at = marker[1][0], marker.end()
        if kind in _FRAME_HEADS:
            height, width = struct.unpack_from(">HH", data, at + 3)
            return width, height
        if kind not in _ALONE:
            at += struct.unpack_from(">H", data, at)[0]
    raise ValueError("no frame")


def _tiff(data: bytes) -> Size:
    order = "<" if data.startswith(b"II") else ">"
    [at] = struct.unpack_from(order + "I", data, 4)
    [count] = struct.unpack_from(order + "H", data, at)
    found = {}
    for start in range(at + 2, min(at + 2 + 12 * count, len(data) - 11), 12):
        tag, kind, values = struct.unpack_from(order + "HHI", data, start)
        if tag in (256, 257) and values == 1 and tag not in found:
            [found[tag]] = struct.unpack_from(order + _NUMBERS.get(kind, "I"), data, start + 8)
    if len(found) < 2:
        raise ValueError("no size")
    return found[256], found[257]


#: TIFF's types for whole numbers: byte, short; else long.
_NUMBERS = {1: "B", 3: "H"}

READERS: dict[str, Callable[[bytes], Size]] = {
    "PNG": _png, "JPEG": _jpeg, "WEBP": _webp, "GIF": _gif, "BMP": _bmp, "TIFF": _tiff,
}  # fmt: skip
