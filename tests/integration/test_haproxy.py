"""The shipped HAProxy configuration, with HAProxy where it is installed, in front of web processes that die."""

from __future__ import annotations

import http.client
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from shared import ROOT
from tests.tools import tool


class Dying:
    """A web process that reads each request and ends the connection without an answer."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                one, _ = self._listener.accept()
                with one:
                    one.settimeout(5)
                    method = one.recv(65536).decode("latin-1").partition(" ")[0]
                    if method:
                        self.asked.append(method)

    def close(self) -> None:
        self._listener.close()


def configured(folder: Path, port: int, backend: int) -> Path:
    """Ours, in front of one server whose address is known, and without its checks."""
    text = (ROOT / "deploy" / "haproxy.cfg").read_text()
    text = re.sub(r"resolvers docker\n(    .*\n)+", "", text)
    text = text.replace("bind :8080", f"bind 127.0.0.1:{port}").replace("log stdout format raw local0 warning", "")
    text = re.sub(r"    default-server .*\n    server-template .*", f"    server web 127.0.0.1:{backend}", text)
    path = folder / "haproxy.cfg"
    path.write_text(text)
    return path


@pytest.fixture
def proxied(tmp_path: Path) -> Iterator[tuple[int, Dying]]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    dying = Dying()
    command = [tool("haproxy"), "-db", "-q", "-f", str(configured(tmp_path, port, dying.port))]
    with subprocess.Popen(command) as haproxy:
        end = time.monotonic() + 10
        while not listens(port) and time.monotonic() < end:
            time.sleep(0.02)
        yield port, dying
        haproxy.kill()
    dying.close()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return not probe.connect_ex(("127.0.0.1", port))


def status_of(port: int, method: str, headers: dict[str, str]) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    with closing(connection):
        connection.request(method, "/v1/predictions/x", headers=headers)
        with connection.getresponse() as answer:
            return answer.status


def test_only_what_may_be_asked_twice_is_asked_again(proxied: tuple[int, Dying]) -> None:
    port, dying = proxied
    key = {"Idempotency-Key": '"k"'}
    for method, headers, tries in (
        ("DELETE", {}, 1), ("DELETE", key, 1), ("POST", {}, 1), ("PUT", {}, 1), ("POST", key, 4), ("GET", {}, 4),
    ):  # fmt: skip
        dying.asked.clear()
        assert status_of(port, method, headers) in (502, 503)
        assert dying.asked == [method] * tries, headers
