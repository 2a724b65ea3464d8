"""A receiver of webhooks."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import redis

from shared import keys
from tests.pictures import seven
from tests.served import WebClient
from tests.waits import until

KEY = bytes(range(32))
SECRET = "whsec_" + base64.b64encode(KEY).decode()
SENDS = {"webhook_secret": SECRET, "webhook_allow_private": "1"}
PICTURE = {"content_type": "image/png"}


class Receiver(ThreadingHTTPServer):
    """Keeps what it gets and answers with the statuses that it is told, then 204."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes, str]] = []
        self.statuses: list[int] = []
        self.hold = threading.Event()
        self.hold.set()
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/hook?a=b"

    def wait_for(self, count: int) -> list[tuple[dict[str, str], bytes, str]]:
        until(lambda: len(self.got) >= count)
        return self.got


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server: Any = self.server
        body = self.rfile.read(int(self.headers["Content-Length"]))
        server.got.append(({name.lower(): value for name, value in self.headers.items()}, body, self.path))
        server.hold.wait(20)
        self.send_response(server.statuses.pop(0) if server.statuses else 204)
        self.send_header("Location", "http://127.0.0.1:1/elsewhere")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.hold.set()
        server.shutdown()
        thread.join()


def submit(web: WebClient, url: str, **headers: str) -> str:
    query = {"callback_url": url}
    answer = web.post("/v1/predictions", query_string=query, data=seven(), headers=headers, **PICTURE)
    assert answer.status_code == 202, answer.text
    return str(answer.get_json()["id"])


def fate(client: redis.Redis, id: str) -> tuple[str, int]:
    """Return the outcome of the callback and the number of attempts."""
    outcome, tries = client.hmget(keys.callback(id), "outcome", "tries")
    return (outcome or b"").decode(), int(tries or 0)
