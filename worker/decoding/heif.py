"""Opens AVIF and HEIC files, the formats of phones: boxes (ISO/IEC 14496-12) around one or several coded pictures.

Only the primary picture of a file is decoded, never a thumbnail, a depth map or a gain map.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from PIL import AvifImagePlugin

#: Pillow's names of the formats that this machine can decode.
FORMATS: tuple[str, ...] = ("AVIF",)
# A worker decodes one picture at a time on one core; each thread would take memory of its own.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1
try:
    import pillow_heif
except ImportError:  # no wheel for this machine
    pass
else:
    pillow_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False, decode_threads=1)
    FORMATS += ("HEIF",)

#: The first box: its size, "ftyp", and the brand.
_BEGINNING = re.compile(rb"....ftyp(avi[fs]|he[iv][cxms]|m[is]f1)", re.DOTALL)
#: Image spatial extents (ISO/IEC 23008-12, 6.5.3): version and flags, width, height.
_EXTENT = re.compile(rb"ispe....(.{8})", re.DOTALL)


def has_known_brand(data: bytes) -> bool:
    """Tell whether the file begins like an AVIF or HEIC that can be decoded here if it is complete."""
    brand = _BEGINNING.match(data)
    return brand is not None and ("HEIF" in FORMATS or brand[1].startswith(b"avi"))


def coded_sizes(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield width and height of each picture as it is coded; a file may show only a part of it."""
    at = 0
    while (head := data[at : at + 16])[8:]:
        size, kind = int.from_bytes(head[:4], "big"), head[4:8]
        size = int.from_bytes(head[8:], "big") if size == 1 else size or len(data)
        if kind == b"meta":
            yield from (struct.unpack(">II", found) for found in _EXTENT.findall(data, at, at + size))
        at += max(size, 8)
