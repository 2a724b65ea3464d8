"""Packs pictures of a batch into chunks, one value for one job, and unpacks them.

A chunk is one line of JSON and then bytes: `{"shape": [height, width]}` and the grey levels, row by row, of pictures
all of this size (0 black, 255 white), or `{"sizes": [...], "refused": {...}}` and the files one after another.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from shared.errors import DigitqError

#: Most pictures and bytes in a chunk. A worker claims one chunk at a time, and reads it in a fraction of a lease.
MAX_IMAGES = 256
MAX_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Chunk:
    """Up to `MAX_IMAGES` packed pictures, and their names, None if they have none."""

    count: int
    data: bytes
    names: list[str] | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """A picture for a batch: its bytes, or the error with which it was refused at upload."""

    name: str
    image: bytes
    error: DigitqError | None = None


@dataclass(frozen=True, slots=True)
class Pack:
    """An unpacked chunk: raw grey levels of `shape`, or files."""

    body: memoryview
    #: Height and width of each picture in `body`; None if it holds files.
    shape: tuple[int, int] | None
    files: list[bytes]
    #: Code and message by position of the pictures refused at upload.
    refused: dict[int, tuple[str, str]]


def raw(pixels: bytes, height: int, width: int) -> Chunk:
    """Pack raw pictures of one size."""
    head = json.dumps({"shape": [height, width]}).encode()
    return Chunk(len(pixels) // (height * width), head + b"\n" + pixels)


def packed(items: Iterable[Item]) -> Iterator[Chunk]:
    """Pack files, in order, and yield full chunks."""
    waiting: list[Item] = []
    size = 0
    for item in items:
        if waiting and (len(waiting) == MAX_IMAGES or size + len(item.image) > MAX_BYTES):
            yield _chunk(waiting)
            waiting, size = [], 0
        waiting.append(item)
        size += len(item.image)
    if waiting:
        yield _chunk(waiting)


def _chunk(items: list[Item]) -> Chunk:
    refused = {at: [one.error.code, str(one.error)] for at, one in enumerate(items) if one.error}
    head = json.dumps({"sizes": [len(one.image) for one in items], "refused": refused}).encode()
    names = [one.name for one in items]
    return Chunk(len(items), b"\n".join([head, b"".join(one.image for one in items)]), names if any(names) else None)


def unpacked(data: bytes) -> Pack:
    """Unpack the data of a chunk."""
    end = data.index(b"\n")
    head, body = json.loads(data[:end]), memoryview(data)[end + 1 :]
    if "shape" in head:
        height, width = head["shape"]
        return Pack(body, (height, width), [], {})
    files, at = [], 0
    for size in head["sizes"]:
        files.append(bytes(body[at : at + size]))
        at += size
    refused = {int(at): (code, message) for at, (code, message) in head["refused"].items()}
    return Pack(body, None, files, refused)
