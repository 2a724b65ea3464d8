"""Names whose addresses change, and servers that tell which of them is asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import AF_INET, SOCK_DGRAM, socket


@contextmanager
def name_server(addresses: dict[str, str]) -> Iterator[int]:
    """The port of a DNS server that knows these names as they stand; each has an IPv4 address and no other."""
    with socket(AF_INET, SOCK_DGRAM) as listening:
        listening.bind(("127.0.0.1", 0))

        def serve() -> None:
            while True:
                asked, who = listening.recvfrom(512)
                if not asked:
                    return
                labels, at = [], 12
                while asked[at]:
                    labels.append(asked[at + 1 : at + 1 + asked[at]].decode())
                    at += 1 + asked[at]
                kind = asked[at + 1 : at + 3]
                address = addresses.get(".".join(labels), "") if kind == b"\0\1" else ""
                answer = b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4" + bytes(map(int, address.split("."))) if address else b""
                count = b"\0\1" if answer else b"\0\0"
                listening.sendto(asked[:2] + b"\x81\x80\0\1" + count + b"\0\0\0\0" + asked[12 : at + 5] + answer, who)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.sendto(b"", listening.getsockname())
            thread.join()


@contextmanager
def http_server(address: str, port: int, says: bytes) -> Iterator[None]:
    """Something that answers every GET with these words."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(says)))
            self.end_headers()
            self.wfile.write(says)

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer((address, port), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
