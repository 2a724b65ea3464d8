"""A chunk: some pictures of a batch, packed into one value for one job. What is packed here is unpacked here.

A pack is one line of JSON and then the bytes: `{"shape": [height, width]}` and grey levels, row by row, of pictures
that are all of this size (0 black, 255 white), or `{"sizes": [...], "refused": {...}}` and the files one after another.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from shared.errors import DigitqError

#: Pictures and bytes that close a chunk. A worker holds one chunk at a time, and has it read in a fraction of a lease.
MAX_IMAGES = 256
MAX_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Chunk:
    """Up to `MAX_IMAGES` pictures, packed, and their names: None if they have none."""

    count: int
    data: bytes
    names: list[str] | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """One picture on its way into a batch: its bytes, or why it was refused at the door."""

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
    #: Position -> code and message of what was refused at the door.
    refused: dict[int, tuple[str, str]]


def raw(pixels: bytes, height: int, width: int) -> Chunk:
    """A chunk of raw pictures of one size."""
    head = json.dumps({"shape": [height, width]}).encode()
    return Chunk(len(pixels) // (height * width), head + b"\n" + pixels)


def packed(items: Iterable[Item]) -> Iterator[Chunk]:
    """Files, in order, a chunk at a time."""
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
    """What `raw` and `packed` have packed."""
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
