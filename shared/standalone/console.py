"""Writes the output of several processes to one descriptor without ever blocking on its reader."""

from __future__ import annotations

import os
import select
import time
from typing import Any

from shared.runtime import logs
from shared.settings import wants_colour

#: A pipe that `select` calls writable takes this many bytes without blocking (POSIX: PIPE_BUF is at least 512).
PIECE_BYTES = 512
#: Bytes that are buffered for a reader that has stopped reading; further lines are dropped.
PENDING_BYTES = 1024 * 1024
#: Seconds that `close` waits for a slow reader.
CLOSE_SECONDS = 1.0
#: ANSI foreground colours of the names on a terminal: cyan, yellow, green, magenta, red, blue.
COLOURS = (36, 33, 32, 35, 31, 34)


def reserve_standard_streams() -> None:
    """Open /dev/null for each of the descriptors 0, 1 and 2 that is closed.

    Otherwise the next file or socket to be opened gets that number, and console output is written to it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one


class Console:
    """Writes lines of named sources to a descriptor, by default standard output: as text, or each as a JSON object.

    A closed pipe or a full disk drops lines without an error: it must not keep a service from running or stopping.
    """

    def __init__(self, descriptor: int = 1, as_json: bool = False) -> None:
        self._descriptor, self._as_json = descriptor, as_json
        self._colourful = os.isatty(descriptor) and wants_colour()
        self._names: list[str] = []
        self._pending = bytearray()
        self._dropped = 0

    def line(self, name: str, text: bytes) -> None:
        """Write one line, given without its newline, with the name of its source: in front of it, or as a field."""
        if self._as_json:
            self.write(logs.of_process(name, text.decode(errors="replace")).encode())
            return
        if name not in self._names:
            self._names.append(name)
        head = f"{name:<8} | "
        if self._colourful:
            head = f"\x1b[{COLOURS[self._names.index(name) % len(COLOURS)]}m{head}\x1b[0m"
        self.write(head.encode() + text)

    def say(self, message: str) -> None:
        """Write a line of the supervisor itself."""
        formatter = logs.Json() if self._as_json else logs.Text()
        self.line("up", formatter.format(logs.of_supervisor(message)).encode())

    def announce(self, text: str, **fields: Any) -> None:
        """Write text of several lines unchanged, or as one JSON object: its first line, and these fields."""
        if self._as_json:
            self.line("up", logs.Json().format(logs.of_supervisor(text.splitlines()[0], **fields)).encode())
        else:
            self.write(text.encode())

    def write(self, text: bytes) -> None:
        """Write text, given without its last newline, unchanged."""
        if len(self._pending) + len(text) > PENDING_BYTES:
            self._dropped += 1
            return
        if dropped := self._dropped:
            self._dropped = 0
            self.say(f"{dropped} lines dropped: nobody read them")
        self._pending += text + b"\n"
        self.flush()

    def flush(self) -> None:
        """Write as much of the buffer as the reader accepts now."""
        while self._pending and self._is_writable():
            try:
                written = os.write(self._descriptor, self._pending[:PIECE_BYTES])
            except BlockingIOError:
                return
            except OSError:  # the reader is gone, or the disk is full
                written = len(self._pending)
            del self._pending[:written]

    def close(self) -> None:
        """Write the rest of the buffer; give up if the reader does not accept it within a second."""
        end = time.monotonic() + CLOSE_SECONDS
        self.flush()
        while self._pending and time.monotonic() < end:
            time.sleep(0.02)
            self.flush()

    def _is_writable(self) -> bool:
        try:
            return bool(select.select([], [self._descriptor], [], 0)[1])
        except (OSError, ValueError):  # closed: the write says so
            return True
