"""Writes amounts as people read them: 10 MB, 50 megapixels."""

from __future__ import annotations

MB = 1024**2


def in_bytes(count: int) -> str:
    """Return `10 MB`, or below one `1,000 bytes`."""
    return f"{count / MB:.3g} MB" if count >= MB else f"{count:,} bytes"


def in_pixels(count: int) -> str:
    """Return `50 megapixels`, or below one `1,000 pixels`."""
    return f"{count / 1e6:.3g} megapixels" if count >= 1e6 else f"{count:,} pixels"
