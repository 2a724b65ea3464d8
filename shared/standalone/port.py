"""Refuses to start a second server on a port: several processes could listen there, and share its requests."""

from __future__ import annotations

import socket
import time
from errno import EADDRINUSE

from shared.errors import CannotStart

_LOOK_AGAIN_SECONDS = 0.1


def check_port(host: str, port: int, seconds: float = 0) -> None:
    """Return if nobody listens at `host:port`, or stops doing so within `seconds`. Raises CannotStart.

    granian sets SO_REUSEPORT, with which the kernel lets any process of the same user listen there too.
    """
    end = time.monotonic() + seconds
    while (error := _refusal(host, port)) and error.errno == EADDRINUSE and time.monotonic() < end:
        time.sleep(_LOOK_AGAIN_SECONDS)
    if error:
        used = error.errno == EADDRINUSE
        why = f"port {port} is in use" if used else f"{host}:{port} cannot be bound ({error.strerror})"
        raise CannotStart(f"{why}; choose another (PORT, DIGITQ_PORT or --port)") from error


def _refusal(host: str, port: int) -> OSError | None:
    try:
        [(family, kind, _, _, address), *_] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        return error
    return None
