"""A batch in a file: from a request, or from a program that uses a client."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import SEEK_END, BytesIO
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, cast

from producer.uploads.files import Upload, is_batch, opened, pictures
from shared.settings import Settings

#: A zip or an IDX file, or pictures, each alone or with its name.
Pictures = bytes | Path | Iterable[bytes | tuple[str, bytes]]

#: A body up to this many bytes stays in memory.
IN_MEMORY = 8 * 1024 * 1024
BLOCK = 256 * 1024


@dataclass(slots=True)
class Received:
    """A body in a file; for a form also the names of its parts, and where each ends."""

    file: IO[bytes]
    names: list[str] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    #: What the file is called, if it is one of this machine.
    filename: str = ""

    def upload(self, settings: Settings) -> Upload:
        """Open the batch. Raises what `producer.uploads.files.opened` raises."""
        self.file.seek(0)
        if len(self.names) == 1 and is_batch(self.file.read(4)):  # a zip or an IDX file, sent by a form
            self.names = []
        self.file.seek(0)
        return pictures(self.parts(), len(self.names), settings) if self.names else opened(self.file, settings)

    def fingerprint(self) -> str:
        """Return the SHA-256 of the whole body."""
        self.file.seek(0)
        total = hashlib.sha256(repr((self.names, self.ends)).encode())
        while block := self.file.read(BLOCK):
            total.update(block)
        return total.hexdigest()

    def size(self) -> int:
        """Return the size of the whole body in bytes."""
        size = self.file.seek(0, SEEK_END)
        self.file.seek(0)
        return size

    def parts(self) -> Iterator[tuple[str, bytes]]:
        """Yield the files of a form, each with its name."""
        self.file.seek(0)
        start = 0
        for name, end in zip(self.names, self.ends, strict=True):
            yield name, self.file.read(end - start)
            start = end


@contextmanager
def gathered(batch: Pictures) -> Iterator[Received]:
    """Collect a batch from a program on this machine. Raises OSError if its file cannot be read."""
    if isinstance(batch, bytes):
        yield Received(BytesIO(batch))
    elif isinstance(batch, Path):
        with batch.open("rb") as file:
            yield Received(file, filename=batch.name)
    else:
        with SpooledTemporaryFile(IN_MEMORY) as spool:
            body = Received(cast(IO[bytes], spool))
            for one in batch:
                name, data = one if isinstance(one, tuple) else ("", one)
                body.file.write(data)
                body.names.append(name)
                body.ends.append(body.file.tell())
            yield body
