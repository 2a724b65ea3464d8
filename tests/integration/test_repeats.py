"""The log, where a server starts late."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.connections.connection import connect
from shared.errors import RedisUnavailable
from shared.settings import Settings
from shared.store import Store
from tests.conftest import start_server
from tests.logged import lines_about_redis


@pytest.fixture
def lines() -> Iterator[list[str]]:
    with lines_about_redis() as told:
        yield told


def test_a_server_that_is_started_late_is_told_of_in_two_lines(lines: list[str]) -> None:
    with tempfile.TemporaryDirectory(prefix="digitq-") as folder:
        store = Store(connect(f"unix://{folder}/redis.sock"), Settings())
        for _ in range(30):
            with pytest.raises(RedisUnavailable):
                store.workers()
        server, _ = start_server(Path(folder))
        try:
            assert store.workers() == [] and store.workers() == []
        finally:
            store.client.close()
            server.terminate()
            server.wait()
    assert len(lines) == 2 and "No such file" in lines[0] and lines[1].startswith("redis: answers again after")
