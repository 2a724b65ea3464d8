"""A console of `digitq up` whose output a test reads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from shared.standalone.console import Console

#: A console, and a function that returns all that was written to it.
Heard: TypeAlias = tuple[Console, Callable[[], str]]


@contextmanager
def heard_console() -> Iterator[Heard]:
    """A console that writes to a pipe."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    text = bytearray()

    def read() -> str:
        try:
            while data := os.read(reading, 65_536):
                text.extend(data)
        except BlockingIOError:
            pass
        return text.decode()

    yield Console(writing), read
    os.close(reading)
    os.close(writing)
