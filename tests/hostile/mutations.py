"""Files with something wrong in them. The dice decide what: the same dice, the same files."""

from __future__ import annotations

import random
import re
import struct
import zlib
from collections.abc import Callable, Sequence

Mutation = Callable[[bytes, random.Random], bytes]

#: Sizes, offsets and counts at which arithmetic goes wrong.
ODD = (0, 1, 2, 7, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
PNG = b"\x89PNG\r\n\x1a\n"
_BOX = re.compile(rb"meta|iloc|iinf|infe|iref|dimg|iprp|ipco|ipma|ispe|irot|clap|hvcC|av1C|pitm|mdat|moov|stsz|stco")


def mutated(data: bytes, dice: random.Random, others: Sequence[bytes]) -> bytes:
    """The file after one to five mutations, or with part of another one in it; often with its checksums mended."""
    if dice.random() < 0.1:
        data = spliced(data, dice.choice(others), dice)
    for _ in range(dice.randint(1, 5)):
        data = dice.choice(MUTATIONS)(data, dice)
    return mended(data) if dice.random() < 0.7 else data


def mended(data: bytes) -> bytes:
    """A PNG with the right checksum on each chunk that is all there, so that more than the checksum is tested."""
    if not data.startswith(PNG):
        return data
    out, at = [PNG], len(PNG)
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        if end + 4 > len(data):
            break
        out += [data[at:end], struct.pack(">I", zlib.crc32(data[at + 4 : end]))]
        at = end + 4
    return b"".join(out) + data[at:]


def spliced(data: bytes, other: bytes, dice: random.Random) -> bytes:
    """The beginning of one file and the end of another."""
    return data[: dice.randint(0, len(data))] + other[dice.randint(0, len(other)) :]


def _place(data: bytes, dice: random.Random) -> int:
    """Anywhere, but more often in the head."""
    return int(dice.random() ** 3 * len(data))


def _flip(data: bytes, dice: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(min(len(out), dice.choice((1, 1, 2, 8, 64)))):
        out[_place(data, dice)] ^= 1 << dice.randrange(8)
    return bytes(out)


def _number(data: bytes, dice: random.Random) -> bytes:
    at, size = _place(data, dice), dice.choice((1, 2, 4, 8))
    odd = dice.choice(ODD) + dice.choice((0, 0, -1, 1))
    number = (odd % 256**size).to_bytes(size, dice.choice(("little", "big")))
    return data[:at] + number + data[at + size :]


def _cut(data: bytes, dice: random.Random) -> bytes:
    return data[: dice.randint(0, len(data))]


def _drop(data: bytes, dice: random.Random) -> bytes:
    at = _place(data, dice)
    return data[:at] + data[at + dice.choice((1, 2, 4, 16, 256)) :]


def _repeat(data: bytes, dice: random.Random) -> bytes:
    at = _place(data, dice)
    part = data[at : at + dice.choice((1, 4, 12, 64, 512))]
    return data[:at] + part * dice.choice((2, 3, 50)) + data[at + len(part) :]


def _insert(data: bytes, dice: random.Random) -> bytes:
    at = _place(data, dice)
    return data[:at] + dice.randbytes(dice.choice((1, 2, 4, 32))) + data[at:]


def _move(data: bytes, dice: random.Random) -> bytes:
    """A part of the file, chunk or tag or segment, from one place to another."""
    size = dice.choice((4, 12, 12, 24, 128))
    source, target = _place(data, dice), _place(data, dice)
    part, rest = data[source : source + size], data[:source] + data[source + size :]
    return rest[:target] + part + rest[target:]


def _rows(data: bytes, dice: random.Random) -> bytes:
    """A PNG whose rows are damaged, and packed well: filters that do not exist, too few bytes, too many."""
    at = data.find(b"IDAT")
    end = at + 4 + int.from_bytes(data[at - 4 : at], "big")
    try:
        rows = zlib.decompress(data[at + 4 : end])
    except zlib.error:
        return data
    packed = zlib.compress(dice.choice((_flip, _cut, _drop, _repeat, _insert))(rows, dice))
    return data[: at - 4] + len(packed).to_bytes(4, "big") + b"IDAT" + packed + data[end:]


def _box(data: bytes, dice: random.Random) -> bytes:
    """An AVIF or HEIF with another number in one of its boxes: its size, a place, a width, a turn."""
    boxes = [found.start() for found in _BOX.finditer(data)]
    if not boxes:
        return data
    at = dice.choice(boxes) + dice.choice((-4, 4, 8, 12, 16, 20))
    return data[:at] + (dice.choice(ODD) % 2**32).to_bytes(4, "big") + data[at + 4 :]


MUTATIONS: tuple[Mutation, ...] = (
    _flip, _flip, _number, _number, _number, _cut, _drop, _repeat, _insert, _move, _rows, _box,
)  # fmt: skip
