"""Records the progress of `digitq submit` in a file, so that the same command resumes after a crash.

One JSON object a line, appended and synced to the disk (fsync) before the next step. The first line names the format.
Each picture has up to three lines with the same `key`, made of its path, the SHA-256 of its bytes and how it is read:

    {"key", "path", "sha256", "idempotency_key"}   before it is submitted
    {"key", "id"}                                  once it was accepted
    {"key", "outcome"}                             once it has ended, or was refused for good

A later line adds to the earlier ones with the same key. A line that a crash has cut off is ignored.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

import click

from producer.client.retry import new_key
from shared.batch import Batch
from shared.errors import Lost
from shared.numbers import Read
from shared.prediction import Prediction
from shared.submission import fingerprint_of

Submitted = TypeVar("Submitted", Prediction, Batch)
HEAD = b'{"digitq_journal": 1}\n'


@dataclass(slots=True)
class Entry:
    """One picture or batch in the journal."""

    key: str
    idempotency_key: str = ""
    id: str = ""
    outcome: dict[str, Any] | None = None


class Journal:
    """An open journal file; with None nothing is recorded. Serves any number of threads of one process."""

    def __init__(self, file: IO[bytes] | None = None) -> None:
        self._file, self._entries = file, dict[str, Entry]()
        self._writing, self._syncing = threading.Lock(), threading.Lock()
        self._written = self._synced = 0
        for line in file or ():
            self._load(line)

    def begin(self, place: str, sha256: str, read: Read = "digit") -> Entry:
        """Returns the entry of the picture at a path, read in this way; a new one if there is none."""
        if self._file is None:
            return Entry("", new_key())
        key = f"{fingerprint_of(sha256, read)}:{place}"
        with self._writing:
            entry = self._entries.setdefault(key, Entry(key))
            new = not entry.idempotency_key
            if new:
                entry.idempotency_key = new_key()
        if new:
            self._append(entry, path=place, sha256=sha256, idempotency_key=entry.idempotency_key)
        return entry

    def submit(self, entry: Entry, get: Callable[[str], Submitted], submit: Callable[[str], Submitted]) -> Submitted:
        """Returns `get(id)` of an entry that the server accepted and still has, else `submit(idempotency_key)`."""
        if entry.id:
            try:
                return get(entry.id)
            except Lost:
                self.restart(entry)
        submitted = submit(entry.idempotency_key)
        entry.id = submitted.id
        self._append(entry, id=entry.id)
        return submitted

    def end(self, entry: Entry, outcome: dict[str, Any]) -> None:
        """Records the final outcome."""
        entry.outcome = outcome
        self._append(entry, outcome=outcome)

    def restart(self, entry: Entry) -> None:
        """Makes the entry new, to be submitted again under another idempotency key."""
        entry.id, entry.idempotency_key = "", new_key()
        self._append(entry, id="", idempotency_key=entry.idempotency_key)

    def _append(self, entry: Entry, **fields: Any) -> None:
        """Returns once the line is on the disk. One fsync serves all threads that have written before it."""
        if self._file is None:
            return
        with self._writing:
            self._file.write(json.dumps({"key": entry.key, **fields}).encode() + b"\n")
            self._file.flush()
            self._written += 1
            line = self._written
        with self._syncing:
            if self._synced < line:
                written = self._written
                os.fsync(self._file.fileno())
                self._synced = written

    def _load(self, line: bytes) -> None:
        try:
            fields = json.loads(line)
            entry = self._entries.setdefault(fields["key"], Entry(fields["key"]))
        except (ValueError, KeyError, TypeError):
            return  # the head, or a line that was cut off
        for name in ("idempotency_key", "id", "outcome"):
            if name in fields:
                setattr(entry, name, fields[name])


@contextmanager
def opened(path: Path | None) -> Iterator[Journal]:
    """Opens or creates the journal at a path. Raises click.UsageError if it is in use or another kind of file."""
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
    """Completes the head, ends a line that was cut off, and seeks to the first line after the head."""
    if first != HEAD:
        file.write(HEAD[len(first) :])
        file.flush()
        os.fsync(file.fileno())
    file.seek(-1, os.SEEK_END)
    if file.read(1) != b"\n":
        file.write(b"\n")
    file.seek(len(HEAD))
