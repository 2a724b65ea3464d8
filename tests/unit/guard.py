"""Sees to it that unit tests start no process and open no connection."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

FORBIDDEN = frozenset(
    {"socket.connect", "socket.bind", "socket.getaddrinfo", "subprocess.Popen", "os.fork", "os.posix_spawn", "os.exec"}
)
#: Forbidden actions while the guard was on; None while it is off.
_tried: list[str] | None = None


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if _tried is not None and event in FORBIDDEN:
        _tried.append(f"{event} {args[1] if event == 'socket.connect' else args[:2]}")
        raise AssertionError(f"a unit test may not do this: {_tried[-1]}")


sys.addaudithook(_audit)  # it cannot be removed, and costs a comparison


@contextmanager
def guarded() -> Iterator[None]:
    """Fails what starts a process or opens a connection, and in the end also where that failure was caught."""
    global _tried
    _tried = tried = []
    try:
        yield
    finally:
        _tried = None
    assert not tried, f"a unit test may not do this: {tried}"
