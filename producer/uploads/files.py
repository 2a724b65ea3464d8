"""Reads batches: several files, a zip, or an IDX file, plain or gzip, piece by piece, in bounded memory.

The first bytes of a file tell its format. Unpacking stops at the limits, where a bomb is refused.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO
from zipfile import ZipInfo

from producer.uploads import archive, kinds
from producer.uploads.admission import admit, clean_filename, from_data_url, is_image, too_many_pixels
from producer.uploads.archive import Archive
from shared.amounts import in_bytes
from shared.chunks import MAX_BYTES, MAX_IMAGES, Chunk, Item, packed, raw
from shared.errors import (
    DigitqError,
    EmptyBatch,
    MalformedBatch,
    TooLarge,
    TooManyImages,
    UnsupportedType,
)
from shared.settings import Settings

BATCH_IS = "A batch is a zip of images, or an IDX file of images, plain or gzip"
GZIP, ZIP, IDX = b"\x1f\x8b", b"PK", b"\0\0"
#: Unsigned bytes in three dimensions; the format is told in worker/training/data/idx.py.
IMAGES, LABELS = 0x0803, 0x0801

Readable = IO[bytes] | gzip.GzipFile


@dataclass(slots=True)
class Upload:
    """A batch that may enter, as far as its head tells: how many pictures, and its chunks as they are read.

    The chunks raise MalformedBatch, TooLarge, TooManyImages and EmptyBatch where the rest is not what the head says.
    """

    #: As its head tells; files of a zip that turn out to be no images make it less.
    total: int
    chunks: Iterable[Chunk]
    #: Files of a zip that are no images: all of them once the chunks are read.
    skipped: int = 0


def is_batch(head: bytes) -> bool:
    """Return True for the first bytes of a zip, a gzip or an IDX file."""
    # The third byte of an IDX file is a type; HEIC, AVIF and videos begin with the size of a box.
    return head.startswith((GZIP, ZIP, IDX)) and not head.startswith(IDX + b"\0")


def opened(file: IO[bytes], settings: Settings) -> Upload:
    """The batch in a file that can be read from any place.

    Raises EmptyBatch, UnsupportedType, MalformedBatch, TooManyImages, TooManyPixels, TooLarge.
    """
    head = file.read(kinds.HEAD)
    file.seek(0)
    if not head:
        raise EmptyBatch()
    if head.startswith(ZIP):
        return _zip(file, settings)
    if head.startswith(GZIP):
        return _idx(gzip.GzipFile(fileobj=file, mode="rb"), settings)
    if is_batch(head):
        return _idx(file, settings)
    what, remedy = ("one image", "send it to /v1/predictions") if is_image(head) else kinds.kind(head)
    raise UnsupportedType(f"{f'This is {what}: {remedy}. ' if what else ''}{BATCH_IS}")


def pictures(files: Iterable[tuple[str, bytes]], total: int, settings: Settings) -> Upload:
    """A batch of files, each with its name. A file that may not enter is refused alone. Raises as `opened`."""
    _check_total(total, settings)
    return Upload(total, packed(_item(clean_filename(name), data, settings) for name, data in files))


def batch_too_large(settings: Settings) -> TooLarge:
    """The error for a batch over the limit, with the limit in it."""
    limit = settings.batch_max_bytes
    return TooLarge(f"The batch exceeds the limit of {in_bytes(limit)}, as uploaded or as unpacked", limit=limit)


def _check_total(total: int, settings: Settings) -> None:
    if not total:
        raise EmptyBatch()
    _check_limit(total, settings)


def _check_limit(total: int, settings: Settings) -> None:
    if total > settings.batch_max_images:
        limit = settings.batch_max_images
        raise TooManyImages(f"The batch holds {total} images; at most {limit} are allowed", limit=limit)


def _item(name: str, data: bytes, settings: Settings) -> Item:
    try:
        data = from_data_url(data, settings)
        admit(data, settings)
    except DigitqError as error:
        return Item(name, b"", error)
    return Item(name, data)


# ---------------------------------------------------------------------- IDX


def _idx(file: Readable, settings: Settings) -> Upload:
    head = _read(file, 4)
    if not head.startswith(IDX):
        raise UnsupportedType(BATCH_IS)
    magic = int.from_bytes(head, "big")
    if magic != IMAGES:
        raise MalformedBatch(f"Expected an IDX file of images, magic number {IMAGES}, found {magic}")
    total, height, width = struct.unpack(">3I", _exactly(file, 12))
    _check_total(total, settings)
    if not height * width:
        raise MalformedBatch(f"Images of {width} x {height} pixels")
    if height * width > settings.max_pixels:
        raise too_many_pixels(width, height, settings)
    if height * width > settings.max_upload_bytes:
        raise TooLarge.upload(settings.max_upload_bytes)
    if total * height * width > settings.batch_max_bytes:
        raise batch_too_large(settings)
    return Upload(total, _idx_chunks(file, total, height, width))


def _idx_chunks(file: Readable, total: int, height: int, width: int) -> Iterator[Chunk]:
    size = height * width
    at_once = max(1, min(MAX_IMAGES, MAX_BYTES // size))
    for first in range(0, total, at_once):
        yield raw(_exactly(file, size * min(at_once, total - first)), height, width)
    if _read(file, 1):
        raise MalformedBatch(f"There is more in the IDX file than the {total} images that its head announces")


def _exactly(file: Readable, size: int) -> bytes:
    data = _read(file, size)
    if len(data) < size:
        raise MalformedBatch("The file ends before what its head announces")
    return data


def _read(file: Readable, size: int) -> bytes:
    try:
        return file.read(size)
    except (OSError, EOFError, zlib.error) as error:  # BadGzipFile is an OSError
        raise MalformedBatch(f"The gzip file is damaged: {error}") from error


def read_labels(data: bytes) -> bytes:
    """One label for each image, from an IDX file, plain or gzip. Raises MalformedBatch."""
    try:
        data = gzip.decompress(data) if data.startswith(GZIP) else data
    except (OSError, EOFError, zlib.error) as error:
        raise MalformedBatch(f"The labels are damaged: {error}") from error
    if len(data) < 8 or struct.unpack(">2I", data[:8]) != (LABELS, len(data) - 8):
        raise MalformedBatch(f"Expected an IDX file of labels (magic number {LABELS}), as many as its head announces")
    return data[8:]


# ---------------------------------------------------------------------- zip


def _zip(file: IO[bytes], settings: Settings) -> Upload:
    zipped = Archive(file, settings)
    named = [(info, archive.path_of(info)) for info in zipped.members]
    wanted = [(info, path) for info, path in named if not archive.is_junk(path)]
    if not wanted:
        raise EmptyBatch()
    upload = Upload(sum(not archive.is_beside(path) for _, path in wanted), (), skipped=len(named) - len(wanted))
    _check_limit(upload.total, settings)
    upload.chunks = packed(_zip_items(upload, zipped, wanted, settings))
    return upload


def _zip_items(
    upload: Upload, zipped: Archive, wanted: Iterable[tuple[ZipInfo, str]], settings: Settings
) -> Iterator[Item]:
    count = 0
    for info, path in wanted:
        item = _zip_item(zipped, info, path, settings)
        if zipped.unpacked > settings.batch_max_bytes:
            raise batch_too_large(settings)
        if item is None:
            upload.skipped += 1
            continue
        count += 1
        _check_limit(count, settings)
        yield item
    if not count:
        raise EmptyBatch(f"None of the {upload.skipped} files in the zip is an image")


def _zip_item(zipped: Archive, info: ZipInfo, path: str, settings: Settings) -> Item | None:
    """One file of the zip; None for what is plainly no image."""
    beside = archive.is_beside(path)
    try:
        head = zipped.read(info, kinds.HEAD if beside else 0)
        if archive.is_no_image(path, head[: kinds.HEAD]):
            return None
        return _item(path, zipped.read(info) if beside else head, settings)
    except DigitqError as error:
        return None if beside else Item(path, b"", error)
