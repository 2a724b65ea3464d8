"""Reads width and height from the header of an image file. No decoder touches the bytes before a worker does.

Every reader does work that is at most linear in the size of the file, whatever its bytes are: the event loop waits.

Sources: PNG 11.2.2; ITU-T T.81, B.1; RFC 9649; GIF89a, 18; TIFF 6.0, section 2; BITMAPCOREHEADER and BITMAPINFOHEADER;
ISO/IEC 14496-12, 4.2 (boxes) and 23008-12, 6.5.3 (`ispe`) for HEIC and AVIF.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator

Size = tuple[int, int]

#: Segments in front of a JPEG's size. A colour profile or an EXIF record of a megabyte takes 16.
MAX_SEGMENTS = 10_000
#: Bytes that may lie between two of them: a search through more at once would hold the GIL for too long.
MAX_FILL = 64 * 1024
#: As libjpeg looks for them: past what is between two segments, and past fill bytes (`\xff`). A repeated `\xff+` here
#: would try each length of a run of fill bytes, from each of its bytes: 30 KB of them took ten seconds.
_MARKER = re.compile(rb"\xff([\x01-\xfe])")
_FRAME_HEADS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ALONE = frozenset(range(0xD0, 0xDA)) | {0x01}
#: Boxes that are looked at on one level of a HEIC or AVIF file. A photo has a dozen, with its 48 tiles a hundred.
MAX_BOXES = 10_000


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
        marker = _MARKER.search(data, at, at + MAX_FILL)
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


def _heif(data: bytes) -> Size:
    """The largest size that an item of the file has: the image itself, one of its tiles, or a thumbnail."""
    at, end = 0, len(data)
    for kind in (b"meta", b"iprp", b"ipco"):
        at, end = next((box[1:] for box in _boxes(data, at, end) if box[0] == kind), (0, 0))
        at += 4 * (kind == b"meta")  # its version and flags
    sizes = [struct.unpack_from(">II", data, start + 4) for kind, start, _ in _boxes(data, at, end) if kind == b"ispe"]
    return max(sizes, key=lambda one: one[0] * one[1])  # a ValueError where there is none


def _boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of the content of each box between two places, MAX_BOXES at most."""
    for _ in range(MAX_BOXES):
        if at + 8 > end:
            return
        length, head = int.from_bytes(data[at : at + 4], "big"), 8
        if length == 1:
            length, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        length = length or end - at  # 0: up to the end
        if length < head:
            raise ValueError("a box that is smaller than its header")
        yield data[at + 4 : at + 8], at + head, min(at + length, end)
        at += length


#: TIFF's types for whole numbers: byte, short; else long.
_NUMBERS = {1: "B", 3: "H"}

READERS: dict[str, Callable[[bytes], Size]] = {
    "PNG": _png, "JPEG": _jpeg, "WEBP": _webp, "GIF": _gif, "BMP": _bmp, "TIFF": _tiff,
    "HEIC": _heif, "AVIF": _heif,
}  # fmt: skip
