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

#: Random bytes that are fetched from the system at once, in portions of 24: a system call each would give the
#: interpreter's lock away each time, and a busy web process waits long to get it back.
PORTIONS = 256
_portions: list[bytes] = []
os.register_at_fork(after_in_child=_portions.clear)

_PATTERN = re.compile(r"[A-Za-z0-9_-]{24}")


def new_id(now: float | None = None, entropy: bytes | None = None) -> str:
    """A fresh id. `now` in Unix seconds and `entropy` (10 bytes) are arguments for the tests' sake."""
    stamp = int((time.time() if now is None else now) * 1000).to_bytes(6, "big")
    body = stamp + (random_bytes()[:10] if entropy is None else entropy)
    return base64.urlsafe_b64encode(body + _checksum(body)).decode()


def random_bytes() -> bytes:
    """24 bytes that nobody can guess."""
    try:
        return _portions.pop()  # atomic, as `extend` is
    except IndexError:
        fresh = os.urandom(24 * PORTIONS)
        _portions.extend(fresh[at : at + 24] for at in range(24, len(fresh), 24))
        return fresh[:24]


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
