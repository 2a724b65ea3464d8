"""The event stream, where Redis goes away or the process stops."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from shared.settings import Settings
from shared.store import Store, connect
from tests.api import answer_all
from tests.conftest import start_server
from tests.listening import listening
from tests.pictures import seven
from tests.served import WebClient, site
from tests.stack import LEAN, up
from tests.waits import until


@pytest.fixture
def web(store: Store) -> Iterator[WebClient]:
    with site(store) as client:
        yield client


def test_redis_gone_and_back_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(prefix="digitq-") as folder:
        server, url = start_server(Path(folder))
        store = Store(connect(url), Settings(redis_url=url))
        try:
            with site(store) as web:
                listener = listening(web)
                server.kill()
                server.wait()
                until(lambda: not listener.wait_for("status")[-1]["redis"], 30)
                server, _ = start_server(Path(folder))
                until(lambda: listener.wait_for("status")[-1]["redis"], 30)
                listening(web)  # subscribed again
                store.submit(seven())
                answer_all(store)
                listener.wait_for("prediction")
        finally:
            server.terminate()
            server.wait()


def test_a_server_with_listeners_and_waiting_requests_stops_at_once() -> None:
    with tempfile.TemporaryDirectory(prefix="digitq-") as folder, up(Path(folder), workers=1, **LEAN) as stack:
        first = threading.Event()

        def listen() -> None:
            with httpx2.Client() as client, client.stream("GET", f"{stack.url}/v1/events", timeout=30) as response:
                for text in response.iter_text():
                    if "event: status" in text:
                        first.set()

        thread = threading.Thread(target=listen)
        thread.start()
        assert first.wait(10)
        began = time.monotonic()
        stack.process.send_signal(signal.SIGTERM)
        thread.join(10)
        assert time.monotonic() - began < 5
        stack.process.wait(20)


def test_a_web_process_that_is_told_twice_to_stop_has_nothing_to_complain_of() -> None:
    twice = """
import os, signal, time
from producer.web.app import application
app = application()
signal.signal(signal.SIGINT, lambda *_: None)
for _ in range(2):
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.5)  # what a stop begins has no end to wait for
os._exit(0)
"""
    nowhere = {**os.environ, "REDIS_URL": "redis://127.0.0.1:1"}
    done = subprocess.run([sys.executable, "-c", twice], env=nowhere, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
