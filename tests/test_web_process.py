"""granian's processes under `digitq web`: a killed one is replaced, and none outlives the one that started it."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from shared.standalone.up import http_ok
from tests.conftest import start_server
from tests.test_supervisor import is_there
from tests.web import free_port, web_process


def until(condition: Callable[[], object], seconds: float = 60) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return bool(condition())


def children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_process_that_is_killed_again_and_again_is_replaced_by_the_same_parent(redis_url: str) -> None:
    port = free_port()
    with web_process(redis_url, port) as parent:
        for _ in range(4):
            [child] = children(parent.pid)
            os.kill(child, signal.SIGKILL)
            assert until(lambda child=child: children(parent.pid) not in ([], [child]))
            assert until(lambda: http_ok(f"http://127.0.0.1:{port}/healthz"))
        assert parent.poll() is None


def test_a_process_whose_parent_was_killed_ends_although_redis_does_not_answer() -> None:
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="digitq-") as folder:
        server, redis_url = start_server(Path(folder))
        try:
            with web_process(redis_url, port) as parent:
                [child] = children(parent.pid)
                server.send_signal(signal.SIGSTOP)
                parent.kill()
                parent.wait()
                assert until(lambda: not is_there(child))
        finally:
            server.kill()
            server.wait()
