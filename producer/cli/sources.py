"""What the words after `digitq submit` mean: files, folders, patterns, and `-` for the standard input."""

from __future__ import annotations

import glob
import hashlib
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from producer.uploads import kinds
from producer.uploads.files import is_batch
from shared.errors import DataError

#: Taken from a folder; a file that is named may be called anything. JPEG XL is not read, and the server says so: a
#: picture that is left out silently would be missed late.
SUFFIXES = kinds.SUFFIXES | {".jxl"}
STDIN = "-"


@dataclass(frozen=True, slots=True)
class Source:
    """Something to hand in."""

    #: As it is shown.
    label: str
    #: None for what has come from the standard input.
    path: Path | None
    #: What has come from the standard input.
    data: bytes = b""

    @property
    def name(self) -> str:
        """The file's name; the standard input has none."""
        return self.path.name if self.path else ""

    @property
    def place(self) -> str:
        """Where it is, from wherever one looks."""
        return str(self.path.resolve()) if self.path else STDIN

    def read(self) -> bytes:
        """All of it. Raises DataError."""
        try:
            return self.path.read_bytes() if self.path else self.data
        except OSError as error:
            raise DataError(f"{self.label} cannot be read: {error.strerror}") from error

    def content(self) -> bytes | Path:
        """What `submit_batch` takes."""
        return self.path or self.data

    def sha256(self) -> str:
        """Of all of it, piece by piece. Raises DataError."""
        try:
            if self.path is None:
                return hashlib.sha256(self.data).hexdigest()
            with self.path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise DataError(f"{self.label} cannot be read: {error.strerror}") from error

    def is_batch(self) -> bool:
        """Whether it holds many pictures, by how it begins. Raises DataError."""
        try:
            if self.path is None:
                head = self.data[:4]
            else:
                with self.path.open("rb") as file:
                    head = file.read(4)
            return is_batch(head)
        except OSError as error:
            raise DataError(f"{self.label} cannot be read: {error.strerror}") from error


def expanded(words: Iterable[str]) -> list[Source]:
    """What the words name, in their order; folders and patterns sorted. Raises click.UsageError for what is nowhere."""
    return [source for word in words for source in _sources(word)]


def _sources(word: str) -> Iterator[Source]:
    path = Path(word)
    if word == STDIN:
        yield Source(STDIN, None, sys.stdin.buffer.read())
    elif path.is_dir():
        found = [one for one in sorted(path.rglob("*")) if _is_picture(one, path)]
        if not found:
            raise click.UsageError(f"There is no picture in the folder '{word}'")
        yield from (Source(str(one), one) for one in found)
    elif path.exists():
        yield Source(word, path)
    else:
        found = [Path(one) for one in sorted(glob.glob(word, recursive=True)) if not Path(one).is_dir()]  # noqa: PTH207
        if not found:
            raise click.UsageError(f"'{word}' does not exist, and no file matches it")
        yield from (Source(str(one), one) for one in found)


def _is_picture(path: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return path.suffix.lower() in SUFFIXES and not hidden and path.is_file()
