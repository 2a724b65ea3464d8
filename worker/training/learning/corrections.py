"""Reads corrections: the zip that the page exports, or a folder with the same files. Both are untrusted input.

`index.csv` has pictures of one digit, `not_digits.csv` pictures of none, and `digits.csv` digits of pages with their
boxes. Other files, such as `manifest.jsonl`, are left alone.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from io import StringIO
from pathlib import Path
from typing import NamedTuple, Protocol
from zipfile import ZipFile

import numpy as np
from numpy.typing import NDArray

from shared.amounts import in_bytes
from shared.errors import DataError
from shared.numbers import Box
from worker.training.pages.crop_truth import NONDIGIT

#: The tables: one digit, none, and digits of pages.
INDEX, NOT_DIGITS, DIGITS = "index.csv", "not_digits.csv", "digits.csv"
BOX = ("left", "top", "width", "height")
#: At most this many corrections: with more, reading them all with each model would take longer than learning.
MOST = 20_000
#: At most this many bytes of a table; a row of an export has about 200.
TABLE_BYTES = 16 * 1024 * 1024
#: What `digits.csv` says of a box without a digit.
NONE = "none"


class BadCorrections(DataError):
    """The zip or folder of corrections is damaged, or a row of it is malformed."""

    code, title = "bad_corrections", "The corrections cannot be used"


class Correction(NamedTuple):
    """The label that a person gives to a picture, or to a box on it."""

    #: Its path in the zip or folder.
    picture: str
    #: 0 to 9, or NONDIGIT.
    label: int
    #: In pixels of the upright picture; None if the label is that of the whole picture.
    box: Box | None = None


class _Files(Protocol):
    name: str

    def read(self, path: str, most: int) -> bytes | None:
        """Return the content of a file; None if there is no such file. Raises `BadCorrections`."""


class Corrections:
    """The corrections of some zips and folders, and their pictures."""

    def __init__(self, max_upload_bytes: int) -> None:
        self._limit = max_upload_bytes
        self._places: dict[str, tuple[_Files, str]] = {}
        #: In the order of the tables.
        self.rows: list[Correction] = []

    def add(self, path: Path) -> None:
        """Add those of a zip or a folder. Raises `BadCorrections`."""
        files = _Folder(path) if path.is_dir() else _Zip(path)
        known = {(one.picture, one.box): one.label for one in self.rows}
        prefix = f"{path}:"
        for row, where in _rows(files):
            one = row._replace(picture=prefix + row.picture)
            if (before := known.get((one.picture, one.box))) not in (None, one.label):
                raise BadCorrections(f"{where}: another row has another label for it")
            if before is None:
                self.rows.append(one)
            known[one.picture, one.box] = one.label
            self._places[one.picture] = files, row.picture
            if len(self.rows) > MOST:
                raise BadCorrections(f"{path}: expected at most {MOST:,} corrections")
        for name in {one.picture for one in self.rows if one.picture.startswith(prefix)}:
            self.content(name)  # a missing picture is named before anything is learnt

    def only(self, chosen: Sequence[bool] | NDArray[np.bool_]) -> Corrections:
        """Return the chosen ones of the rows [n]."""
        part = copy(self)
        part.rows = [row for row, one in zip(self.rows, chosen, strict=True) if one]
        return part

    def content(self, picture: str) -> bytes:
        """Return the bytes of a picture. Raises `BadCorrections`."""
        files, path = self._places[picture]
        content = files.read(path, self._limit)
        if content is None:
            raise BadCorrections(f"{files.name} has no picture {path!r}, which a row names")
        return content


def _rows(files: _Files) -> Iterator[tuple[Correction, str]]:
    """Yield the corrections of the tables, and where each stands."""
    tables = {name: content for name in (INDEX, NOT_DIGITS, DIGITS) if (content := files.read(name, TABLE_BYTES))}
    if not tables:
        raise BadCorrections(f"{files.name} has no {INDEX}: expected corrections exported from the page")
    for name, content in tables.items():
        columns = {"path"} | ({"label"} if name != NOT_DIGITS else set()) | (set(BOX) if name == DIGITS else set())
        try:
            reader = csv.DictReader(StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
            if missing := columns - set(reader.fieldnames or ()):
                raise BadCorrections(f"{files.name}, {name}: lacks the column {', '.join(sorted(missing))}")
            for row in reader:
                where = f"{files.name}, {name}, line {reader.line_num}"
                yield _correction(name, row, where), where
        except (UnicodeDecodeError, csv.Error) as error:
            raise BadCorrections(f"{files.name}, {name}: cannot be read: {error}") from error


def _correction(table: str, row: Mapping[str, str | None], where: str) -> Correction:
    path, label = row["path"], row.get("label")
    if not path:
        raise BadCorrections(f"{where}: lacks the path of a picture")
    if table == NOT_DIGITS:
        return Correction(path, NONDIGIT)
    known = {str(digit): digit for digit in range(10)} | ({NONE: NONDIGIT} if table == DIGITS else {})
    if label not in known:
        other = f" or {NONE}" if table == DIGITS else ""
        raise BadCorrections(f"{where}: expected a label from 0 to 9{other}, found {label!r}")
    return Correction(path, known[label], _box(row, where) if table == DIGITS else None)


def _box(row: Mapping[str, str | None], where: str) -> Box:
    found = [row[name] or "" for name in BOX]
    if not all(text.isascii() and text.isdigit() and len(text) < 7 for text in found) or "0" in found[2:]:
        raise BadCorrections(f"{where}: expected a box of whole pixels in {', '.join(BOX)}, found {', '.join(found)}")
    left, top, width, height = map(int, found)
    return left, top, width, height


class _Folder:
    def __init__(self, path: Path) -> None:
        self.name, self._path = str(path), path.resolve()

    def read(self, path: str, most: int) -> bytes | None:
        file = (self._path / path).resolve()
        if not file.is_relative_to(self._path):
            raise BadCorrections(f"{self.name}: {path!r} lies outside the folder")
        try:
            if not file.is_file():
                return None
            with file.open("rb") as opened:
                content = opened.read(most + 1)
        except (OSError, ValueError) as error:
            raise BadCorrections(f"{self.name}: {path!r} cannot be read: {error}") from error
        return _bounded(content, f"{self.name}: {path!r}", most)


class _Zip:
    def __init__(self, path: Path) -> None:
        self.name = str(path)
        try:
            self._zip = ZipFile(path)
            members = self._zip.infolist()
        except Exception as error:  # a damaged zip makes zipfile raise nearly anything
            raise BadCorrections(f"{path} is not a zip of corrections: {error}") from error
        self._members = {info.filename: info for info in members}
        if len(self._members) != len(members) or len(members) > 2 * MOST:
            raise BadCorrections(f"{path}: expected at most {2 * MOST:,} files of different names")

    def read(self, path: str, most: int) -> bytes | None:
        info = self._members.get(path)
        if info is None:
            return None
        try:
            with self._zip.open(info) as member:
                content = member.read(most + 1)  # no more, whatever the directory of the zip says
        except Exception as error:
            raise BadCorrections(f"{self.name}: {path!r} is damaged or encrypted: {error}") from error
        return _bounded(content, f"{self.name}: {path!r}", most)


def _bounded(content: bytes, name: str, most: int) -> bytes:
    if len(content) > most:
        raise BadCorrections(f"{name} has more than {in_bytes(most)}")
    return content
