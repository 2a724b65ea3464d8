"""Locks the state directory of `digitq up`, and finds the socket of its server for clients in the same folder."""

from __future__ import annotations

import fcntl
import os
import re
import socket
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from shared.errors import CannotStart

#: Longest path of a Unix socket that every system takes (sun_path of macOS, less the final zero).
MAX_SOCKET_PATH = 103
#: Characters of a usable socket path: it is part of a URL, and of the reply to CLIENT INFO, which redis-py splits at
#: spaces and "=" (a worker would not start).
_PLAIN = re.compile(r"[A-Za-z0-9._/@+,~-]+")
#: Seconds to wait for the lock while a server replies, and while none does. After a `digitq up` was killed its server
#: ends at once, but the server's child that rewrites the log notices that only at its next report, once a second.
ANSWERED_SECONDS, LOCK_SECONDS = 0.5, 5.0
#: Bytes that must be free on the disk at start.
ROOM_BYTES = 65_536


def socket_path(state_dir: Path) -> Path:
    """Return the path of the server's socket: in `state_dir`, unless that is too long or has odd characters."""
    folder = (state_dir / "redis").absolute()
    path = folder / "redis.sock"
    if len(str(path)) <= MAX_SOCKET_PATH and _PLAIN.fullmatch(str(path)):
        return path
    return Path(f"/tmp/digitq-{os.getuid()}-{zlib.crc32(str(folder).encode()):x}.sock")  # noqa: S108  # a socket of mode 700


def running_server(state_dir: Path) -> str:
    """Return the URL of the server of a `digitq up` that runs with this `state_dir`, or "" if none does.

    The socket of another user is not trusted.
    """
    path = socket_path(state_dir)
    with suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
        if path.stat().st_uid == os.getuid():
            probe.connect(str(path))
            return f"unix://{path}"
    return ""


@contextmanager
def locked(state_dir: Path) -> Iterator[int]:
    """Create and lock the folder of the server's data; yield the lock's descriptor, for the server to inherit.

    The kernel releases the lock when the last process with the descriptor ends: no lock is ever stale, and none is free
    while a server still runs. Raises CannotStart if another `digitq up` holds it or the folder cannot be written.
    """
    folder = (state_dir / "redis").absolute()
    try:
        lock = _open_lock(folder)
    except OSError as error:
        raise CannotStart(
            f"{folder} cannot be written ({error.strerror}): make room there, or set DIGITQ_STATE_DIR to another folder"
        ) from error
    try:
        if not _locks(lock, state_dir) or running_server(state_dir):
            raise CannotStart(f"another digitq runs with the data in {folder}: stop it, or set DIGITQ_STATE_DIR")
        yield lock
    finally:
        os.close(lock)


def _open_lock(folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as room:
        room.write(bytes(ROOM_BYTES))
    return os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)


def _locks(lock: int, state_dir: Path) -> bool:
    """Take the lock; return False if another process keeps it. Raises CannotStart if the disk has no locks."""
    start = time.monotonic()
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waited = time.monotonic() - start
            if waited > LOCK_SECONDS or (waited > ANSWERED_SECONDS and running_server(state_dir)):
                return False
            time.sleep(0.05)
        except OSError as error:  # as on a network file system without locks
            folder = (state_dir / "redis").absolute()
            raise CannotStart(
                f"{folder} cannot be locked ({error.strerror}): set DIGITQ_STATE_DIR to a folder on a local disk"
            ) from error
        else:
            return True
