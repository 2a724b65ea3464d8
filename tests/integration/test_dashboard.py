"""deploy/dashboard/haproxy.cfg in a real HAProxy: what it lets through to rq-dashboard."""

from __future__ import annotations

import re
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2
import pytest
import yaml

from shared import ROOT
from tests.tools import tool
from tests.web import free_port

CONFIG = ROOT / "deploy" / "dashboard" / "haproxy.cfg"
COMPOSE = ROOT / "deploy" / "docker-compose.dashboard.yml"
EMPTY, REQUEUE = "/queue/digitq/failed/empty", "/requeue/digitq"


class Dashboard(BaseHTTPRequestHandler):
    """Answers 200 to whatever reaches it."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_DELETE = do_GET  # noqa: N815  # the library's names

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    binary = tool("haproxy")
    port, file = free_port(), tmp_path_factory.mktemp("haproxy") / "haproxy.cfg"
    with ThreadingHTTPServer(("127.0.0.1", 0), Dashboard) as behind:
        text = CONFIG.read_text()
        for theirs, ours in (
            ("bind :9181", f"bind 127.0.0.1:{port}"),
            ("dashboard:9181 check inter 1s resolvers docker init-addr none", f"127.0.0.1:{behind.server_port}"),
        ):
            assert text.count(theirs) == 1
            text = text.replace(theirs, ours)
        file.write_text(text)
        thread = threading.Thread(target=behind.serve_forever, args=(0.05,))
        thread.start()
        proxy = subprocess.Popen([binary, "-db", "-f", str(file)])
        try:
            url, end = f"http://127.0.0.1:{port}", time.monotonic() + 20
            while not answers(url):
                assert time.monotonic() < end and proxy.poll() is None, "HAProxy did not start"
                time.sleep(0.05)
            yield url
        finally:
            proxy.terminate()
            proxy.wait(20)
            behind.shutdown()
            thread.join()


def answers(url: str) -> bool:
    try:
        return httpx2.get(url).status_code == 200
    except httpx2.TransportError:
        return False


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", "/", {}), ("GET", "/0/view/workers", {"Sec-Fetch-Site": "cross-site"}), ("POST", EMPTY, {}),
        ("POST", EMPTY, {"Sec-Fetch-Site": "same-origin", "Origin": "null"}),
        ("POST", REQUEUE, {"Sec-Fetch-Site": "none"}),
        ("POST", EMPTY, {"Origin": "http://127.0.0.1:{port}"}), ("GET", "/", {"Host": "localhost:9181"}),
        ("GET", "/", {"Host": "[::1]:9181"}), ("GET", "/", {"Host": "LOCALHOST"}),
    ],
)  # fmt: skip
def test_what_its_own_page_sends_reaches_it(method: str, path: str, headers: dict[str, str], guarded: str) -> None:
    port = guarded.rpartition(":")[2]
    sent = {name: value.replace("{port}", port) for name, value in headers.items()}
    assert httpx2.request(method, guarded + path, headers=sent).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("POST", EMPTY, {"Sec-Fetch-Site": "cross-site"}, 403), ("POST", EMPTY, {"Sec-Fetch-Site": "same-site"}, 403),
        ("POST", EMPTY, {"Origin": "https://evil.example"}, 403), ("POST", EMPTY, {"Origin": "null"}, 403),
        ("POST", EMPTY, {"Origin": "http://127.0.0.1:1"}, 403),
        ("DELETE", "/", {"Origin": "https://evil.example"}, 403),
        ("GET", REQUEUE, {"Sec-Fetch-Site": "cross-site"}, 403), ("GET", REQUEUE, {}, 405),
        ("GET", "/", {"Host": "evil.example"}, 403), ("GET", "/", {"Host": "127.0.0.1.evil.example"}, 403),
        ("POST", EMPTY, {"Host": "evil.example:9181", "Origin": "http://evil.example:9181"}, 403),
    ],
)  # fmt: skip
def test_what_pages_of_other_sites_send_does_not(
    method: str, path: str, headers: dict[str, str], status: int, guarded: str
) -> None:
    assert httpx2.request(method, guarded + path, headers=headers).status_code == status


def test_only_the_proxy_is_published_and_the_password_has_no_default() -> None:
    text = COMPOSE.read_text()
    services = yaml.safe_load(text)["services"]
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert list(published) == ["dashboard-proxy"]
    assert all(port.startswith("127.0.0.1:") for port in published["dashboard-proxy"])
    forms = re.findall(r"\$\{\w*PASSWORD(..)", text)
    assert len(forms) == 2 and set(forms) == {":?"}
