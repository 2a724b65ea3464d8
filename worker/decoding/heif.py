"""AVIF and HEIC, the pictures of phones: files of boxes (ISO/IEC 14496-12) around one frame of a film or several.

Of all that may be in them only the primary picture is read: no thumbnail in its place, no depth, no gain map.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from PIL import AvifImagePlugin

#: Pillow's names of those that can be read here.
FORMATS: tuple[str, ...] = ("AVIF",)
# A worker reads one picture at a time on its core; threads would each take memory of their own.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1
try:
    import pillow_heif
except ImportError:  # no wheel for this machine
    pass
else:
    pillow_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False, decode_threads=1)
    FORMATS += ("HEIF",)

#: How such files begin, after the size of their first box: "ftyp", and the brand.
_BEGINNING = re.compile(rb"....ftyp(avi[fs]|he[iv][cxms]|m[is]f1)", re.DOTALL)
#: Image spatial extents (ISO/IEC 23008-12, 6.5.3): version and flags, width, height.
_EXTENT = re.compile(rb"ispe....(.{8})", re.DOTALL)


def claims_to_be(data: bytes) -> bool:
    """Whether the file begins as an AVIF or HEIC that could be read here if it were whole."""
    brand = _BEGINNING.match(data)
    return brand is not None and ("HEIF" in FORMATS or brand[1].startswith(b"avi"))


def coded_sizes(data: bytes) -> Iterator[tuple[int, int]]:
    """Width and height of each picture in the file as it is coded; of the primary one less may be shown."""
    at = 0
    while (head := data[at : at + 16])[8:]:
        size, kind = int.from_bytes(head[:4], "big"), head[4:8]
        size = int.from_bytes(head[8:], "big") if size == 1 else size or len(data)
        if kind == b"meta":
            yield from (struct.unpack(">II", found) for found in _EXTENT.findall(data, at, at + size))
        at += max(size, 8)
