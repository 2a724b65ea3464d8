"""Expands the arguments of `digitq submit`: files, folders, patterns, and `-` for the standard input."""

from __future__ import annotations

import glob
import hashlib
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO

import click

from producer.uploads import kinds
from producer.uploads.files import is_batch
from shared.errors import DataError

#: Suffixes of the files that are taken from a folder. The server rejects JPEG XL and says so; skipping would hide it.
SUFFIXES = kinds.SUFFIXES | {".jxl"}
STDIN = "-"


@dataclass(frozen=True, slots=True)
class Source:
    """A file or the standard input, to be submitted."""

    #: The name in the output.
    label: str
    #: None for the standard input.
    path: Path | None
    #: The bytes of the standard input.
    data: bytes = b""

    @property
    def name(self) -> str:
        """The file's name; empty for the standard input."""
        return self.path.name if self.path else ""

    @property
    def place(self) -> str:
        """The absolute path, by which the journal identifies the file."""
        return str(self.path.resolve()) if self.path else STDIN

    def content(self) -> bytes | Path:
        """Return what `submit_batch` accepts."""
        return self.path or self.data

    def read(self) -> bytes:
        """Return all bytes. Raises DataError."""
        with self._opened() as file:
            return file.read()

    def sha256(self) -> str:
        """Return the SHA-256 of all bytes, read block by block. Raises DataError."""
        with self._opened() as file:
            return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]

    def is_batch(self) -> bool:
        """Tells by the first bytes whether it holds many pictures. Raises DataError."""
        with self._opened() as file:
            return is_batch(file.read(4))

    @contextmanager
    def _opened(self) -> Iterator[IO[bytes]]:
        try:
            with self.path.open("rb") if self.path else BytesIO(self.data) as file:
                yield file
        except OSError as error:
            raise DataError(f"{self.label} cannot be read: {error.strerror}") from error


def expand(arguments: Iterable[str]) -> list[Source]:
    """Return the sources in the order of the arguments; folders and patterns are sorted. Raises click.UsageError."""
    return [source for argument in arguments for source in _sources(argument)]


def _sources(argument: str) -> list[Source]:
    path = Path(argument)
    if argument == STDIN:
        return [Source(STDIN, None, sys.stdin.buffer.read())]
    if path.is_dir():
        missing = f"There is no picture in the folder '{argument}'"
        found = [file for file in sorted(path.rglob("*")) if _is_picture(file, path)]
    elif path.exists():
        return [Source(argument, path)]
    else:
        missing = f"'{argument}' does not exist, and no file matches it"
        matches = map(Path, sorted(glob.glob(argument, recursive=True)))  # noqa: PTH207
        found = [match for match in matches if not match.is_dir()]
    if not found:
        raise click.UsageError(missing)
    return [Source(str(file), file) for file in found]


def _is_picture(path: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return path.suffix.lower() in SUFFIXES and not hidden and path.is_file()
