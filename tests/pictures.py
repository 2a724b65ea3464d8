"""Pictures that the tests draw themselves."""

from __future__ import annotations

import struct
import zipfile
import zlib
from io import BytesIO

from PIL import Image, ImageDraw


def png(pixels: bytes = bytes(784), width: int = 28, height: int = 28) -> bytes:
    """8-bit grey PNG of raw pixels."""
    out = BytesIO()
    Image.frombytes("L", (width, height), pixels).save(out, "PNG")
    return out.getvalue()


def seven(size: int = 28, format: str = "PNG", mode: str = "L") -> bytes:
    """A drawn 7, white on black."""
    image = Image.new("L", (size, size))
    scale = size / 28
    points = [(8 * scale, 7 * scale), (19 * scale, 7 * scale), (12 * scale, 22 * scale)]
    ImageDraw.Draw(image).line(points, fill=255, width=max(1, round(2.5 * scale)), joint="curve")
    out = BytesIO()
    image.convert(mode).save(out, format)
    return out.getvalue()


def png_header(width: int, height: int) -> bytes:
    """The first bytes of a PNG that claims to be this large."""
    ihdr = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", ihdr) + bytes(20)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """Length, kind, data and checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def idx(count: int) -> bytes:
    return struct.pack(">4I", 0x803, count, 28, 28) + bytes(784 * count)


def zip_of(*members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip of these files."""
    out = BytesIO()
    with zipfile.ZipFile(out, "w", method) as one:
        for name, data in members:
            one.writestr(name, data)
    return out.getvalue()
