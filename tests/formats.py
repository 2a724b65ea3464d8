"""Containers of pictures, byte by byte."""

from __future__ import annotations

import struct


def box(kind: bytes, *content: bytes) -> bytes:
    data = b"".join(content)
    return struct.pack(">I", 8 + len(data)) + kind + data


def ftyp(major: bytes, *others: bytes) -> bytes:
    return box(b"ftyp", major, bytes(4), major, *others)


def ispe(width: int, height: int) -> bytes:
    return box(b"ispe", bytes(4), struct.pack(">II", width, height))


def heif(*properties: bytes, major: bytes = b"heic", others: tuple[bytes, ...] = (b"mif1",)) -> bytes:
    """The header of a HEIC or AVIF file with these item properties."""
    meta = box(b"meta", bytes(4), box(b"hdlr", bytes(24)), box(b"iprp", box(b"ipco", *properties), box(b"ipma")))
    return ftyp(major, *others) + box(b"free", bytes(9)) + meta + box(b"mdat", bytes(100))
