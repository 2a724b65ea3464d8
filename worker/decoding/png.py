"""The usual picture, read without ceremony: a PNG of 28x28 grey levels, whole and with nothing else in it."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from worker.image.fit import SIDE

_IHDR = b"IHDR" + SIDE.to_bytes(4, "big") * 2 + b"\x08\x00\x00\x00\x00"  # 8 bits, grey, not interlaced
#: How such a file begins and ends (PNG specification, 5.2, 11.2.2 and 11.2.5).
HEAD = b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0d" + _IHDR + zlib.crc32(_IHDR).to_bytes(4, "big")
END = b"\x00\x00\x00\x00IEND\xae\x42\x60\x82"


def plain(files: Sequence[bytes]) -> tuple[list[int], NDArray[np.uint8]]:
    """Positions of the files that are such pictures, and their grey levels, uint8 [n, 28, 28], as `decode` gives them.

    Whatever is not as usual is left out, and for `decode` to judge.
    """
    found = [(at, levels) for at, data in enumerate(files) if (levels := _levels(data))]
    pixels = np.frombuffer(b"".join(levels for _, levels in found), np.uint8)
    return [at for at, _ in found], pixels.reshape(-1, SIDE, SIDE)


def _levels(data: bytes) -> bytes:
    """784 bytes; none for anything but head, one IDAT chunk with its right checksum, and end."""
    start, end = len(HEAD) + 8, len(data) - len(END) - 4
    if not data.startswith(HEAD) or data[start - 4 : start] != b"IDAT" or not data.endswith(END):
        return b""
    length, checksum = data[start - 8 : start - 4], data[end : end + 4]
    if int.from_bytes(length, "big") != end - start or int.from_bytes(checksum, "big") != zlib.crc32(
        data[start - 4 : end]
    ):
        return b""
    try:
        return Image.frombytes("L", (SIDE, SIDE), data[start:end], "zip", "L", 0).tobytes()
    except Exception:  # damaged bytes make Pillow raise nearly anything
        return b""
