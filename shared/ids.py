"""Prediction ids: 24 URL-safe characters that nobody can guess and that tell when they were handed out.

48 bits of Unix milliseconds, 80 random bits, 16 bits of checksum, as base64url. With the time inside, an id whose
record is gone can be answered honestly (expired, lost, or never handed out) without keeping a tombstone for each. The
checksum is no secret: forging it earns nothing but a 410 instead of a 404.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import time
import zlib

_PATTERN = re.compile(r"[A-Za-z0-9_-]{24}")


def new_id(now: float | None = None, entropy: bytes | None = None) -> str:
    """A fresh id. `now` in Unix seconds and `entropy` (10 bytes) are arguments for the tests' sake."""
    stamp = int((time.time() if now is None else now) * 1000).to_bytes(6, "big")
    body = stamp + (os.urandom(10) if entropy is None else entropy)
    return base64.urlsafe_b64encode(body + _checksum(body)).decode()


def issued_at(text: str) -> float | None:
    """When the id was handed out, in Unix seconds; None if this is no id of ours."""
    if not _PATTERN.fullmatch(text):
        return None
    try:
        raw = base64.urlsafe_b64decode(text)
    except binascii.Error:
        return None
    body, check = raw[:16], raw[16:]
    return int.from_bytes(body[:6], "big") / 1000 if check == _checksum(body) else None


def _checksum(body: bytes) -> bytes:
    return (zlib.crc32(body) & 0xFFFF).to_bytes(2, "big")
