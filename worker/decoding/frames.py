"""Tells whether a file is an animation, or has several pages: only one of them is read."""

from __future__ import annotations

from io import BytesIO

from PIL import Image

#: Where an animation is announced: the first bytes of a file, and what is among its first HEAD bytes.
HEAD = 2048
SIGNS = (
    (b"GIF8", b""), (b"II*\0", b""), (b"MM\0*", b""), (b"\x89PNG", b"acTL"), (b"RIFF", b"ANIM"), (b"\0\0\0", b"avis"),
)  # fmt: skip


def has_several_frames(data: bytes) -> bool:
    """Return True for a picture with more than one frame or page; False also for one that cannot be opened."""
    if not any(data.startswith(start) and sign in data[:HEAD] for start, sign in SIGNS):
        return False
    try:
        with Image.open(BytesIO(data), formats=("GIF", "TIFF", "PNG", "WEBP", "AVIF")) as image:
            return bool(getattr(image, "is_animated", False))
    except Exception:  # Pillow raises nearly anything for damaged bytes
        return False
