"""Inspects the markers of JPEG files, and drops scans that do not show in a reduced picture (ITU-T T.81)."""

from __future__ import annotations

import re

from PIL import Image

_START_OF_SCAN = b"\xff\xda"
#: The next marker outside coded data.
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")


def scan_count(data: bytes) -> int:
    """Count the start-of-scan markers; coded data may hold a few by chance."""
    return data.count(_START_OF_SCAN)


def is_stored_as_rgb(image: Image.Image) -> bool:
    """Tell whether a JPEG stores RGB, by Adobe's marker or its components' names: libjpeg cannot draft it as YCbCr."""
    names = [name for name, *_ in getattr(image, "layer", ())]
    return image.info.get("adobe_transform") == 0 or names == list(b"RGB")


def without_detail(data: bytes) -> bytes:
    """Drop the scans of a progressive JPEG that refine it or add fine colour; return anything else unchanged.

    At a quarter of the size the last bits of the frequencies do not show, nor does colour beyond its mean. These scans
    are most of the bytes, and each visits all blocks of the picture (T.81, annexes B.1 and G).
    """
    kept, at, luma = [data[:2]], 2, None
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xD9:
        kind, end = data[at + 1], at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        wanted = True
        if kind == 0xC2:  # progressive frame header: the size, then the components, luma first
            luma = data[at + 10 : at + 11]
        elif kind == 0xDA:  # scan header: its components, its first and last frequency, its bits
            first, bits = data[end - 3 : end - 2], data[end - 1 : end]
            wanted = first == b"\0" or (bits < b"\x10" and data[at + 5 : at + 6] == luma)
            following = _MARKER.search(data, end)
            end = following.start() if following else len(data)
        if wanted:
            kept.append(data[at:end])
        at = end
    complete = luma is not None and data[at : at + 2] == b"\xff\xd9"
    return b"".join(kept) + data[at:] if complete else data
