"""Labelled pictures to evaluate with: MNIST's digits as PNG files, or a folder with an index."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shared.errors import DataError
from worker.training.data.idx import Images, Labels

INDEX = "index.csv"
COLUMNS = {"path", "label", "category"}


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of a known digit."""

    #: Says which one it is: a path within its folder, or a position in its data set.
    name: str
    #: 0 to 9.
    label: int
    #: What kind of picture it is.
    category: str
    #: Where its bytes are, or its grey levels uint8 [H, W].
    source: Path | NDArray[np.uint8]

    def content(self) -> bytes:
        """The bytes of an upload of it. Raises `DataError` if the file is gone."""
        if not isinstance(self.source, Path):
            return png(self.source)
        try:
            return self.source.read_bytes()
        except OSError as error:
            raise DataError(f"{self.source} cannot be read: {error}") from error


def png(grey: NDArray[np.uint8]) -> bytes:
    """Grey levels uint8 [H, W] -> a PNG file."""
    file = BytesIO()
    Image.fromarray(grey).save(file, "PNG", compress_level=1)
    return file.getvalue()


def from_arrays(images: Images, labels: Labels, category: str, indices: Iterable[int] | None = None) -> list[Picture]:
    """Images uint8 [n, 28, 28] with their labels [n]; named by `indices`, else by their position."""
    names = range(len(images)) if indices is None else indices
    triples = zip(names, images, labels.tolist(), strict=True)
    return [Picture(f"#{name}", label, category, image) for name, image, label in triples]


def from_folder(folder: Path) -> list[Picture]:
    """The pictures in `folder`/index.csv, whose columns `path`, `label` (0 to 9) and `category` are read.

    Raises `DataError` if the index cannot be read, lacks a column, or a label is no digit.
    """
    index = folder / INDEX
    try:
        with index.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{index} cannot be read: {error}") from error
    if not rows or not rows[0].keys() >= COLUMNS:
        raise DataError(f"{index}: expected pictures in the columns {', '.join(sorted(COLUMNS))}")
    return [_picture(folder, number, row) for number, row in enumerate(rows, 2)]


def _picture(folder: Path, line: int, row: dict[str, str]) -> Picture:
    if row["label"] not in tuple("0123456789"):
        raise DataError(f"{folder / INDEX}, line {line}: expected a label from 0 to 9, found {row['label']!r}")
    return Picture(row["path"], int(row["label"]), row["category"], folder / row["path"])
