"""A TCP proxy that breaks connections on purpose."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


class Proxy:
    """Passes requests on; `cut(n)` says of the n-th piece of an answer whether the connection breaks in its place."""

    def __init__(self, target: tuple[str, int], cut: Callable[[int], bool]) -> None:
        self._target, self._cut = target, cut
        self._lock, self.connections, self.pieces, self.cuts = threading.Lock(), 0, 0, 0
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.connections += 1
                server = socket.create_connection(self._target)
                self._open |= {client, server}
                threading.Thread(target=self._up, args=(client, server), daemon=True).start()
                threading.Thread(target=self._down, args=(server, client), daemon=True).start()

    def _up(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                server.sendall(data)
        self._break(client, server)

    def _down(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                with self._lock:
                    self.pieces += 1
                    cut = self._cut(self.pieces)
                    self.cuts += cut
                if cut:
                    break
                client.sendall(data)
        self._break(client, server)

    def _break(self, *ends: socket.socket) -> None:
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
            self._open.discard(end)

    def close(self) -> None:
        """Break all that is open, and listen no more."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._break(*list(self._open))


@contextmanager
def proxy(url: str, cut: Callable[[int], bool] = lambda n: False) -> Iterator[Proxy]:
    host, port = url.removeprefix("http://").split(":")
    running = Proxy((host, int(port)), cut)
    try:
        yield running
    finally:
        running.close()
