"""Where `digitq up` has its server listen, and whether one does: clients and workers in the same folder find it."""

from __future__ import annotations

import os
import socket
import zlib
from contextlib import suppress
from pathlib import Path

#: Longest path of a Unix socket that every system takes (sun_path of macOS, less the final zero).
MAX_SOCKET_PATH = 103


def socket_path(state_dir: Path) -> Path:
    """Returns the socket of the server whose data is under `state_dir`."""
    folder = (state_dir / "redis").absolute()
    path = folder / "redis.sock"
    if len(str(path)) <= MAX_SOCKET_PATH:
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
