"""What was handed in, in a file, so that the same command goes on after a crash: nothing twice, nothing forgotten.

One JSON object per line, only ever appended, on the disk (fsync) before the next step is taken. The first line names
the format. Then for each picture up to three lines with the same `key` (its path and the SHA-256 of its bytes):

    {"key", "path", "sha256", "idempotency_key"}   before it is sent
    {"key", "id"}                                  it was accepted
    {"key", "outcome"}                             it has ended, or was refused for good

A later line with the same key adds to the earlier ones. A line that was torn by a crash counts as not written.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import click

from producer.client.wire import new_key

HEAD = b'{"digitq_journal": 1}\n'


@dataclass(slots=True)
class Entry:
    """What is known of one picture."""

    key: str
    idempotency_key: str = ""
    id: str = ""
    outcome: dict[str, Any] | None = None


class Journal:
    """The open file; None keeps nothing. For any number of threads of one process."""

    def __init__(self, file: IO[bytes] | None = None) -> None:
        self._file, self._entries = file, dict[str, Entry]()
        self._writing, self._syncing = threading.Lock(), threading.Lock()
        self._written = self._synced = 0
        for line in file or ():
            self._read(line)

    def begin(self, place: str, sha256: str) -> Entry:
        """The entry of a picture at this place: as far as it came, or a new one."""
        if self._file is None:
            return Entry("", new_key())
        key = f"{sha256}:{place}"
        with self._writing:
            entry = self._entries.setdefault(key, Entry(key))
            fresh = not entry.idempotency_key
            if fresh:
                entry.idempotency_key = new_key()
        if fresh:
            self._note(entry, path=place, sha256=sha256, idempotency_key=entry.idempotency_key)
        return entry

    def accepted(self, entry: Entry, id: str) -> None:
        """It has an id."""
        entry.id = id
        self._note(entry, id=id)

    def ended(self, entry: Entry, outcome: dict[str, Any]) -> None:
        """Nothing more will happen to it."""
        entry.outcome = outcome
        self._note(entry, outcome=outcome)

    def again(self, entry: Entry) -> None:
        """The server has lost it: it is to be sent as if it never had been."""
        entry.id, entry.idempotency_key = "", new_key()
        self._note(entry, id="", idempotency_key=entry.idempotency_key)

    def _note(self, entry: Entry, **fields: Any) -> None:
        """On the disk when it returns. Whoever comes while another syncs is synced with all who came by then."""
        if self._file is None:
            return
        with self._writing:
            self._file.write(json.dumps({"key": entry.key, **fields}).encode() + b"\n")
            self._file.flush()
            self._written += 1
            mine = self._written
        with self._syncing:
            if self._synced < mine:
                all_of_them = self._written
                os.fsync(self._file.fileno())
                self._synced = all_of_them

    def _read(self, line: bytes) -> None:
        try:
            fields = json.loads(line)
            entry = self._entries.setdefault(fields["key"], Entry(fields["key"]))
        except (ValueError, KeyError, TypeError):
            return  # the head, or torn
        for name in ("idempotency_key", "id", "outcome"):
            if name in fields:
                setattr(entry, name, fields[name])


@contextmanager
def opened(path: Path | None) -> Iterator[Journal]:
    """The journal at the path, made if it is not there. Raises click.UsageError if it is in use, or something else."""
    if path is None:
        yield Journal()
        return
    with path.open("a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise click.UsageError(f"The journal '{path}' is in use by another digitq") from error
        file.seek(0)
        first = file.readline()
        if first != HEAD and not HEAD.startswith(first):
            raise click.UsageError(f"'{path}' is not a journal of digitq; nothing was written to it")
        _repair(file, first)
        yield Journal(file)


def _repair(file: IO[bytes], first: bytes) -> None:
    """Whole lines from here on: completes the head, and ends a line that was torn."""
    if first != HEAD:
        file.write(HEAD[len(first) :])
        file.flush()
        os.fsync(file.fileno())
    file.seek(-1, os.SEEK_END)
    if file.read(1) != b"\n":
        file.write(b"\n")
    file.seek(len(HEAD))
