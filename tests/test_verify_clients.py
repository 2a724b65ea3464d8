"""The fault `slow-clients`: what it takes for a broken promise."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace
from typing import Any

import pytest

from tests.pictures import seven
from verify import slow_clients
from verify.crowd import Others
from verify.ledger import Ledger
from verify.means import Scene


class Naive(BaseHTTPRequestHandler):
    """Serves one after another, and waits for whoever is silent."""

    def do_GET(self) -> None:
        self.answer(200)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(202)

    def answer(self, status: int) -> None:
        body = b'{"id": "x"}'
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


@contextmanager
def naive_server() -> Iterator[HTTPServer]:
    with HTTPServer(("127.0.0.1", 0), Naive) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_clients, "SILENT", 0.002)
    monkeypatch.setattr(slow_clients, "HALF_HEADS", 0.01)
    monkeypatch.setattr(slow_clients, "SLOW_BODIES", 0.02)


@pytest.mark.usefixtures("few")
def test_a_server_that_serves_one_after_another_is_caught() -> None:
    with naive_server() as server:
        stack: Any = SimpleNamespace(url=f"http://127.0.0.1:{server.server_port}")
        scene = Scene(stack, Ledger(), random.Random(1))
        slow_clients.slow_clients(scene)
    assert any("nine of ten took" in finding.detail for finding in scene.ledger.unexpected)


def observed(seconds: float, troubles: int = 0) -> Others:
    kinds = {"healthz": [0.1] * 100, "upload": [0.1] * 80 + [seconds] * 20, "poll": [0.1] * 100}
    return Others(1, seven(), seconds=kinds, troubles=[("upload", "refused")] * troubles)


def test_a_few_late_answers_are_no_broken_promise() -> None:
    assert slow_clients.judged(observed(1.0, troubles=3), alone=True) == []


def test_beside_another_fault_waiting_counts_and_a_refusal_does_not() -> None:
    assert slow_clients.judged(observed(1.0, troubles=100), alone=False) == []
    [finding] = slow_clients.judged(observed(4.0, troubles=100), alone=False)
    assert finding.subject == "upload beside slow clients"
