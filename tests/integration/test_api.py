"""The HTTP API, where the server is away or hangs."""

from __future__ import annotations

import json
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.ids import new_id
from shared.settings import Settings
from shared.store import Store, connect
from tests.api import PICTURE, is_problem
from tests.conftest import start_server
from tests.pictures import seven
from tests.served import WebClient, site


@pytest.fixture
def web(store: Store) -> Iterator[WebClient]:
    with site(store) as client:
        yield client


def test_redis_out_of_reach_is_503_within_a_second() -> None:
    with site(Store(connect("unix:///nowhere/redis.sock"), Settings())) as web:
        calls = [
            lambda: web.get("/readyz"),
            lambda: web.get("/v1/model"),
            lambda: web.get("/v1/predictions"),
            lambda: web.get(f"/v1/predictions/{new_id()}?wait=5"),
            lambda: web.post("/v1/predictions", data=seven(), **PICTURE),
        ]
        for call in calls:
            start = time.monotonic()
            response = call()
            assert time.monotonic() - start < 1
            assert "nowhere" not in json.dumps(is_problem(response, 503, "redis_unavailable"))
            assert response.headers["Retry-After"] == "1"
        assert web.get("/healthz").status_code == 200


def test_a_server_that_hangs_is_503_within_a_second(caplog: pytest.LogCaptureFixture) -> None:
    """Each request waits for one answer in vain, and that not for a second: on a busy machine no clock can tell."""
    with tempfile.TemporaryDirectory(prefix="digitq-") as folder:
        server, url = start_server(Path(folder))
        try:
            store = Store(connect(url), Settings())
            assert store.client.connection_pool.connection_kwargs["socket_timeout"] == 0.7
            with site(store) as web:
                id = web.post("/v1/predictions", data=seven(), **PICTURE).get_json()["id"]
                server.send_signal(signal.SIGSTOP)
                for path in (f"/v1/predictions/{id}", f"/v1/predictions/{id}?wait=5", "/readyz", "/v1/predictions"):
                    caplog.clear()
                    is_problem(web.get(path), 503, "redis_unavailable")
                    waits = [one for one in caplog.records if one.name == "digitq.redis" and "Timeout" in one.message]
                    assert len(waits) == 1, path
                server.send_signal(signal.SIGCONT)
                assert web.get(f"/v1/predictions/{id}").get_json()["state"] == "queued"
        finally:
            server.send_signal(signal.SIGCONT)
            server.terminate()
            server.wait()
