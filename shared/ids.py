"""Makes and parses prediction ids: 24 URL-safe characters that cannot be guessed and contain their time of issue.

48 bits of Unix milliseconds, 80 random bits, 16 bits of checksum, as base64url. The time tells whether an id without a
record has expired, was lost, or was never issued, without a tombstone for each. The checksum is no secret: forging it
only turns a 404 into a 410.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import time
import zlib

#: Portions of 24 random bytes fetched with one system call: each call releases the interpreter's lock, and a busy web
#: process waits long to get it back.
PORTIONS = 256
_portions: list[bytes] = []
os.register_at_fork(after_in_child=_portions.clear)

#: The alphabet for URLs (RFC 4648, 5); `urlsafe_b64encode` takes twice as long.
_FOR_URLS = bytes.maketrans(b"+/", b"-_")
_PATTERN = re.compile(r"[A-Za-z0-9_-]{24}")


def new_id(now: float | None = None, entropy: bytes | None = None) -> str:
    """Make a new id. `now` (Unix seconds) and `entropy` (10 bytes) are for tests."""
    stamp = int((time.time() if now is None else now) * 1000).to_bytes(6, "big")
    body = stamp + (random_bytes()[:10] if entropy is None else entropy)
    return binascii.b2a_base64(body + _checksum(body), newline=False).translate(_FOR_URLS).decode()


def random_bytes() -> bytes:
    """Return 24 bytes from the system's secure random source."""
    try:
        return _portions.pop()  # atomic, as `extend` is
    except IndexError:
        fresh = os.urandom(24 * PORTIONS)
        _portions.extend(fresh[at : at + 24] for at in range(24, len(fresh), 24))
        return fresh[:24]


def issued_at(text: str) -> float | None:
    """Return the time of issue in Unix seconds; None if the text is not a valid id."""
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
