"""The shipped HAProxy configuration, with HAProxy where it is installed, in front of web processes that die."""

from __future__ import annotations

import http.client
import re
import socket
import subprocess
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import closing, suppress
from io import BytesIO
from pathlib import Path

import httpx2
import pytest

from shared import ROOT
from tests.addresses import http_server, name_server
from tests.pictures import seven
from tests.tools import tool
from tests.waits import until
from tests.web import free_port, web_process


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
        until(lambda: listens(port))
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


def test_web_that_comes_back_under_another_address_is_found_by_its_name(tmp_path: Path) -> None:
    port, web, addresses = free_port(), free_port(), {"web.test": "127.0.0.2"}
    with name_server(addresses) as dns:
        text = (ROOT / "deploy" / "haproxy.cfg").read_text()
        for theirs, ours in (
            ("bind :8080", f"bind 127.0.0.1:{port}"), ("log stdout format raw local0 warning", ""),
            ("parse-resolv-conf", f"nameserver dns 127.0.0.1:{dns}"), ("web 16 web:8000", f"web 16 web.test:{web}"),
        ):  # fmt: skip
            assert text.count(theirs) == 1
            text = text.replace(theirs, ours)
        (tmp_path / "haproxy.cfg").write_text(text)
        with subprocess.Popen([tool("haproxy"), "-db", "-q", "-f", str(tmp_path / "haproxy.cfg")]) as haproxy:
            try:
                with http_server("127.0.0.2", web, b"digitq"), http_server("127.0.0.3", web, b"another"):
                    wait_for(f"http://127.0.0.1:{port}/", "digitq")
                # Both stop, and start in the other order.
                addresses["web.test"] = "127.0.0.3"
                with http_server("127.0.0.2", web, b"another"), http_server("127.0.0.3", web, b"digitq"):
                    wait_for(f"http://127.0.0.1:{port}/", "digitq")
            finally:
                haproxy.kill()


def wait_for(url: str, text: str) -> None:
    """Wait until a URL answers with this text, five times in a row."""
    end, in_a_row = time.monotonic() + 30, 0
    while in_a_row < 5:
        assert time.monotonic() < end, "the old address is asked for ever"
        with suppress(httpx2.TransportError):
            in_a_row = in_a_row + 1 if httpx2.get(url).text == text else 0
        time.sleep(0.1)


def test_an_upload_may_take_longer_than_the_timeout_as_long_as_it_goes_on(tmp_path: Path, redis_url: str) -> None:
    body = BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        for number in range(20):
            archive.writestr(f"{number}.png", seven() + bytes(5000))
    port, behind = free_port(), free_port()
    with web_process(redis_url, behind):
        file = configured(tmp_path, port, behind)
        text = file.read_text()
        for name, shipped, shorter in (("client", "60s", "1s"), ("http-request", "10s", "3s"), ("server", "60s", "3s")):
            assert f"timeout {name} {shipped}" in text
            text = text.replace(f"timeout {name} {shipped}", f"timeout {name} {shorter}")
        file.write_text(text)
        with subprocess.Popen([tool("haproxy"), "-db", "-q", "-f", str(file)]) as haproxy:
            try:
                until(lambda: listens(port))
                began, url = time.monotonic(), f"http://127.0.0.1:{port}/v1/batches"
                assert httpx2.post(url, content=slowly(body.getvalue()), timeout=60).status_code == 202
                assert time.monotonic() - began > 4
            finally:
                haproxy.kill()


def slowly(body: bytes) -> Iterator[bytes]:
    """Yield a body within five seconds, in twenty pieces."""
    size = len(body) // 20 + 1
    for at in range(0, len(body), size):
        time.sleep(0.25)
        yield body[at : at + size]


def test_counters_are_not_scraped_through_the_proxy(proxied: tuple[int, Dying]) -> None:
    port, dying = proxied
    refused = httpx2.get(f"http://127.0.0.1:{port}/metrics")
    assert refused.status_code == 404 and "each web container" in refused.text and dying.asked == []
