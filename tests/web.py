"""A web process in this process, and a worker that takes everything for a 7."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any
from urllib.parse import parse_qs

from werkzeug.serving import make_server

from shared import ROOT, keys
from shared.claims import Finish, Ran
from shared.standalone.up import http_ok
from shared.store import Store
from tests.fakes import outcome
from tests.served import WebClient, site


class Web:
    """A running web process without a worker, which counts what is asked of it."""

    def __init__(self, client: WebClient) -> None:
        self.calls: list[str] = []
        #: The names in the addresses of what is posted.
        self.posted: list[str] = []
        inner: Any = client.application

        def counted(environ: Any, start: Any) -> Any:
            self.calls.append(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}")
            if environ["REQUEST_METHOD"] == "POST":
                self.posted += parse_qs(environ["QUERY_STRING"]).get("filename", [])
            return inner(environ, start)

        self.server = make_server("127.0.0.1", 0, counted, threaded=True)
        self.url = f"http://127.0.0.1:{self.server.port}"

    def posts(self) -> int:
        return sum(call.startswith("POST") for call in self.calls)


@contextmanager
def web(store: Store) -> Iterator[Web]:
    with site(store) as client:
        one = Web(client)
        thread = threading.Thread(target=one.server.serve_forever, args=(0.02,))
        thread.start()
        yield one
        client.call(client.services.events.stop)
        one.server.shutdown()
        thread.join()
        one.server.server_close()


@contextmanager
def sevens(store: Store, at_once: int = 64, pause: float = 0.02) -> Iterator[None]:
    """Answers up to `at_once` pictures every `pause` seconds."""
    stop = threading.Event()

    def serve() -> None:
        while not stop.wait(pause):
            claims = store.claim("w", keys.QUEUES, at_once, "n")
            done = [Finish(claim, "e30=", "", outcome(7)) for claim in claims]
            store.finish("w", done, Ran("m", "p", 1, 0.4, 0.9))

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def web_process(
    redis_url: str, port: int, stderr: IO[bytes] | None = None, **env: str
) -> Iterator[subprocess.Popen[bytes]]:
    """`digitq web` on that port, in a process group of its own, from when it answers."""
    keep = {name: value for name, value in os.environ.items() if not name.startswith("DIGITQ_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "digitq", "web"], cwd=ROOT, start_new_session=True, stderr=stderr,
        env={**keep, "REDIS_URL": redis_url, "DIGITQ_PORT": str(port), **env},
    )  # fmt: skip
    try:
        end = time.monotonic() + 30
        while not http_ok(f"http://127.0.0.1:{port}/healthz"):
            assert time.monotonic() < end and process.poll() is None, "the web process did not start"
            time.sleep(0.05)
        yield process
    finally:
        os.killpg(process.pid, signal.SIGCONT)
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
