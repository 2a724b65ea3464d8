"""The state directory of `digitq up`: its lock, and the socket by which clients in the same folder find its server."""

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
#: What a socket's path may consist of: it is part of a URL, and of the answer to CLIENT INFO, which redis-py splits at
#: spaces and "=" (a worker would not start).
_PLAIN = re.compile(r"[A-Za-z0-9._/@+,~-]+")
#: Seconds to wait for the lock while a server answers, and while none does: that of a `digitq up` that was just killed
#: ends at once, but its child that rewrites the log notices that only when it next reports, once a second.
ANSWERED_SECONDS, LOCK_SECONDS = 0.5, 5.0
#: Bytes that must fit on the disk at start.
ROOM_BYTES = 65_536


def socket_path(state_dir: Path) -> Path:
    """Returns the socket of the server whose data is under `state_dir`: there, unless the path has odd characters."""
    folder = (state_dir / "redis").absolute()
    path = folder / "redis.sock"
    if len(str(path)) <= MAX_SOCKET_PATH and _PLAIN.fullmatch(str(path)):
        return path
    return Path(f"/tmp/digitq-{os.getuid()}-{zlib.crc32(str(folder).encode()):x}.sock")  # noqa: S108  # a socket of mode 700


def running_server(state_dir: Path) -> str:
    """Returns the URL of the server of a `digitq up` that runs with this `state_dir`, or "" if none does.

    A socket that belongs to another user is not trusted, and one where nobody listens any more counts as none.
    """
    path = socket_path(state_dir)
    with suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
        if path.stat().st_uid == os.getuid():
            probe.connect(str(path))
            return f"unix://{path}"
    return ""


@contextmanager
def locked(state_dir: Path) -> Iterator[int]:
    """Creates and locks the folder of the server's data; yields the lock's descriptor, for the server to inherit.

    The kernel releases the lock when the last process with the descriptor ends: no lock is stale, and none is free
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
    """Takes the lock; returns False if another process keeps holding it. Raises CannotStart where none can be had."""
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
