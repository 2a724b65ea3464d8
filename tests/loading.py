"""A server that speaks Redis's protocol and says of everything that it is still loading its data."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager

ANSWER = b"-LOADING Redis is loading the dataset in memory\r\n"


class Loading(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        while line := self.rfile.readline():
            if line.startswith(b"*"):  # a command: an array of bulk strings
                for _ in range(2 * int(line[1:])):
                    self.rfile.readline()
                self.wfile.write(ANSWER)


@contextmanager
def loading_server() -> Iterator[str]:
    """Return the URL of such a server."""
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Loading)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"redis://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
