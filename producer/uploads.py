"""A batch as it comes in: several files, a zip, or an IDX file, plain or gzip. Read piece by piece, in bounded memory.

What a file is, its first bytes say. Nothing is unpacked further than the limits go: a bomb is refused when it reaches
them.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

from producer.admission import admit, clean_filename, too_large
from shared.chunks import MAX_BYTES, MAX_IMAGES, Chunk, Item, packed, raw
from shared.errors import (
    DigitqError,
    EmptyBatch,
    MalformedBatch,
    TooLarge,
    TooManyImages,
    TooManyPixels,
    UndecodableImage,
    UnsupportedType,
)
from shared.settings import Settings

GZIP, ZIP, IDX = b"\x1f\x8b", b"PK", b"\0\0"
#: Unsigned bytes in three dimensions; the format is told in worker/training/idx.py.
IMAGES, LABELS = 0x0803, 0x0801
#: In front of every file in a zip's directory, at its end (APPNOTE.TXT, 4.3.12).
_ZIP_ENTRY = b"PK\x01\x02"
_BLOCK = 1024 * 1024

Readable = IO[bytes] | gzip.GzipFile


@dataclass(frozen=True, slots=True)
class Upload:
    """A batch that may enter, as far as its head tells: how many pictures, and its chunks as they are read.

    The chunks raise MalformedBatch, TooLarge and EmptyBatch where the rest is not what the head says.
    """

    total: int
    chunks: Iterable[Chunk]


def is_batch(head: bytes) -> bool:
    """Whether a file that begins like this is a zip, a gzip or an IDX file."""
    return head.startswith((GZIP, ZIP, IDX))


def opened(file: IO[bytes], settings: Settings) -> Upload:
    """The batch in a file that can be read from any place.

    Raises EmptyBatch, UnsupportedType, MalformedBatch, TooManyImages, TooManyPixels, TooLarge.
    """
    head = file.read(4)
    file.seek(0)
    if not head:
        raise EmptyBatch()
    if head.startswith(ZIP):
        return _zip(file, settings)
    if head.startswith(GZIP):
        return _idx(gzip.GzipFile(fileobj=file, mode="rb"), settings)
    return _idx(file, settings)


def pictures(files: Iterable[tuple[str, bytes]], total: int, settings: Settings) -> Upload:
    """A batch of files, each with its name. A file that may not enter is refused alone. Raises as `opened`."""
    _check_total(total, settings)
    return Upload(total, packed(_item(name, data, settings) for name, data in files))


def batch_too_large(settings: Settings) -> TooLarge:
    """The error for a batch over the limit, with the limit in it."""
    limit = settings.batch_max_bytes
    return TooLarge(f"A batch may have {limit} bytes, as uploaded and as unpacked", limit=limit)


def _check_total(total: int, settings: Settings) -> None:
    if not total:
        raise EmptyBatch()
    if total > settings.batch_max_images:
        limit = settings.batch_max_images
        raise TooManyImages(f"The batch holds {total} images; at most {limit} are allowed", limit=limit)


def _item(name: str, data: bytes, settings: Settings) -> Item:
    name = clean_filename(name)
    try:
        admit(data, settings)
    except DigitqError as error:
        return Item(name, b"", error)
    return Item(name, data)


# ---------------------------------------------------------------------- IDX


def _idx(file: Readable, settings: Settings) -> Upload:
    head = _read(file, 4)
    if not head.startswith(IDX):
        raise UnsupportedType("A batch is a zip of pictures, or an IDX file of images, plain or gzip")
    magic = int.from_bytes(head, "big")
    if magic != IMAGES:
        raise MalformedBatch(f"Expected an IDX file of images, magic number {IMAGES}, found {magic}")
    total, height, width = struct.unpack(">3I", _exactly(file, 12))
    _check_total(total, settings)
    if not height * width:
        raise MalformedBatch(f"Images of {width} x {height} pixels")
    if height * width > settings.max_pixels:
        raise TooManyPixels(f"{width} x {height} pixels", limit=settings.max_pixels)
    if height * width > settings.max_upload_bytes:
        raise too_large(settings)
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
    # Before ZipFile makes an object of each entry: millions fit into a few megabytes.
    entries = _count(file, _ZIP_ENTRY)
    if entries > 2 * settings.batch_max_images:
        raise TooManyImages(f"The zip has {entries} entries", limit=settings.batch_max_images)
    try:
        archive = ZipFile(file)
    except Exception as error:  # a damaged zip makes zipfile raise nearly anything
        raise MalformedBatch(f"The zip cannot be read: {error}") from error
    wanted = [info for info in archive.infolist() if _is_wanted(info)]
    _check_total(len(wanted), settings)
    return Upload(len(wanted), packed(_zip_items(archive, wanted, settings)))


def _is_wanted(info: ZipInfo) -> bool:
    """No folders, and not what a Mac adds for itself: `__MACOSX/`, `.DS_Store`, `._picture.png`."""
    path = info.filename.split("/")  # not is_dir(): it fails where there is no name at all
    return not info.filename.endswith("/") and path[0] != "__MACOSX" and not path[-1].startswith(".")


def _zip_items(archive: ZipFile, wanted: Iterable[ZipInfo], settings: Settings) -> Iterator[Item]:
    total = 0
    for info in wanted:
        name = clean_filename(info.filename)
        try:
            data = _member(archive, info, settings)
        except DigitqError as error:
            yield Item(name, b"", error)
            continue
        total += len(data)
        if total > settings.batch_max_bytes:
            raise batch_too_large(settings)
        yield _item(name, data, settings)


def _member(archive: ZipFile, info: ZipInfo, settings: Settings) -> bytes:
    """One file of the zip. The other methods of compression unpack without a bound, and hardly anybody uses them."""
    if info.compress_type not in (ZIP_STORED, ZIP_DEFLATED) or info.flag_bits & 1:
        raise UndecodableImage("The file is encrypted, or compressed with something else than deflate")
    if info.file_size > settings.max_upload_bytes:
        raise too_large(settings)
    try:
        with archive.open(info) as member:
            data = member.read(settings.max_upload_bytes + 1)
    except Exception as error:
        raise UndecodableImage("The file is damaged within the zip") from error
    return data


def _count(file: IO[bytes], word: bytes) -> int:
    """How often the word is in the file; the file is then at its beginning again."""
    found, tail = 0, b""
    while block := file.read(_BLOCK):
        found += (tail + block).count(word)
        tail = block[1 - len(word) :]
    file.seek(0)
    return found
