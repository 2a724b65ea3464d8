"""The IDX format of the MNIST files: a big-endian header of sizes, then the bytes.

Source of the format: "THE IDX FILE FORMAT" on the MNIST page, http://yann.lecun.com/exdb/mnist/.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import struct
import zlib
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.errors import DataError

Images = NDArray[np.uint8]
Labels = NDArray[np.uint8]

SIDE = 28
#: Third byte 8: unsigned bytes. Fourth byte: the number of dimensions.
UNSIGNED_BYTES = 0x0800
GZIP_MAGIC = b"\x1f\x8b"

#: Attribute of `Mnist` -> the file's original name.
FILES = {
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}


@dataclass(frozen=True)
class Mnist:
    """The data set: images uint8 [n, 28, 28] with 0 for paper and 255 for ink, labels uint8 [n] from 0 to 9."""

    train_images: Images
    train_labels: Labels
    test_images: Images
    test_labels: Labels

    def sha256(self) -> dict[str, str]:
        """File name -> SHA-256 of the uncompressed file, as `sha256sum` prints it."""
        return {FILES[f.name]: hashlib.sha256(encode(getattr(self, f.name))).hexdigest() for f in fields(self)}


def load_mnist(directory: Path) -> Mnist:
    """Read the four files, each under its original name with or without `.gz`.

    Raises `DataError` if one is missing or damaged, or if images and labels differ in number.
    """
    paths = {attribute: _find(directory, name) for attribute, name in FILES.items()}
    arrays = {a: (read_images if a.endswith("images") else read_labels)(path) for a, path in paths.items()}
    for part in ("train", "test"):
        images, labels = f"{part}_images", f"{part}_labels"
        if len(arrays[images]) != len(arrays[labels]):
            found = f"{len(arrays[images])} images but {len(arrays[labels])} labels"
            raise DataError(f"{paths[images]} and {paths[labels]}: expected a label for each image, found {found}")
    return Mnist(**arrays)


def read_images(data: bytes | Path) -> Images:
    """Content or path of an image file, plain or gzip -> uint8 [n, 28, 28]. Raises `DataError`."""
    return _read(data, (SIDE, SIDE))


def read_labels(data: bytes | Path) -> Labels:
    """Content or path of a label file, plain or gzip -> uint8 [n], each 0 to 9. Raises `DataError`."""
    labels = _read(data, ())
    if labels.size and labels.max() > 9:
        raise DataError(f"{_name(data)}: expected labels from 0 to 9, found {labels.max()}")
    return labels


def encode(array: NDArray[np.uint8]) -> bytes:
    """uint8 array of any shape -> the content of an uncompressed IDX file."""
    header = struct.pack(f">{1 + array.ndim}I", UNSIGNED_BYTES + array.ndim, *array.shape)
    return header + array.tobytes()


def pixels(images: Images) -> NDArray[np.float32]:
    """uint8 [n, 28, 28] -> float32 [n, 28, 28] in [0, 1], as the network sees them."""
    return images.astype(np.float32) / np.float32(255)


def _read(data: bytes | Path, item: tuple[int, ...]) -> NDArray[np.uint8]:
    """Content of an IDX file of unsigned bytes, whose items must have the shape `item`."""
    name, content = _name(data), _content(data)
    rank = 1 + len(item)
    length, magic = 4 + 4 * rank, UNSIGNED_BYTES + rank
    found = int.from_bytes(content[:4], "big")
    if found != magic:
        raise DataError(f"{name}: expected the magic number {magic}, found {found}")
    if len(content) < length:
        raise DataError(f"{name}: expected a header of {length} bytes, found {len(content)} bytes")
    shape = struct.unpack(f">{rank}I", content[4:length])
    if shape[1:] != item:
        raise DataError(f"{name}: expected images of {_by(item)} pixels, found {_by(shape[1:])}")
    size = length + math.prod(shape)
    if len(content) != size:
        fault = "truncated" if len(content) < size else "trailing bytes"
        raise DataError(f"{name}: {fault}: expected {size} bytes for {shape[0]} items, found {len(content)}")
    return np.frombuffer(content, np.uint8, offset=length).reshape(shape)


def _content(data: bytes | Path) -> bytes:
    try:
        content = data.read_bytes() if isinstance(data, Path) else data
        return gzip.decompress(content) if content.startswith(GZIP_MAGIC) else content
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{_name(data)}: cannot be read: {error}") from error


def _find(directory: Path, name: str) -> Path:
    for path in (directory / name, directory / f"{name}.gz"):
        if path.exists():
            return path
    raise DataError(f"{directory} has neither {name} nor {name}.gz; `digitq train --download` fetches what is missing")


def _name(data: bytes | Path) -> str:
    return str(data) if isinstance(data, Path) else "IDX data"


def _by(sides: tuple[int, ...]) -> str:
    return " x ".join(map(str, sides))
