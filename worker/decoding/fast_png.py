"""Decodes the most common upload without Pillow's general path: a PNG of 28x28 8-bit grey levels and nothing else."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
from PIL import Image

from worker.image.arrays import Grey
from worker.image.mnist_format import SIDE

_IHDR = b"IHDR" + SIDE.to_bytes(4, "big") * 2 + b"\x08\x00\x00\x00\x00"  # 8 bits, grey, not interlaced
#: The bytes before the IDAT chunk and after it (PNG specification, 5.2, 11.2.2 and 11.2.5).
HEAD = b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0d" + _IHDR + zlib.crc32(_IHDR).to_bytes(4, "big")
END = b"\x00\x00\x00\x00IEND\xae\x42\x60\x82"


def decode_plain_pngs(files: Sequence[bytes]) -> tuple[list[int], Grey]:
    """Decode those files that are plain 28x28 PNGs; return their positions and levels uint8 [n, 28, 28].

    The levels are those that `decode` gives. All other files, damaged ones included, are left to `decode`.
    """
    found = [(at, levels) for at, data in enumerate(files) if (levels := _levels(data))]
    pixels = np.frombuffer(b"".join(levels for _, levels in found), np.uint8)
    return [at for at, _ in found], pixels.reshape(-1, SIDE, SIDE)


def _levels(data: bytes) -> bytes:
    """Return the 784 levels, or b"" unless the file is head, one IDAT chunk with the right checksum, and end."""
    start, end = len(HEAD) + 8, len(data) - len(END) - 4
    if not data.startswith(HEAD) or data[start - 4 : start] != b"IDAT" or not data.endswith(END):
        return b""
    length, checksum = (int.from_bytes(data[at : at + 4], "big") for at in (start - 8, end))
    if length != end - start or checksum != zlib.crc32(data[start - 4 : end]):
        return b""
    try:
        return Image.frombytes("L", (SIDE, SIDE), data[start:end], "zip", "L", 0).tobytes()
    except Exception:  # Pillow raises nearly anything for damaged bytes
        return b""
