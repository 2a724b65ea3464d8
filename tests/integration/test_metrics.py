"""Metrics where Redis is away."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from shared.settings import Settings
from shared.store import Store, connect
from tests.samples import samples
from tests.served import WebClient, site


@pytest.fixture
def web(store: Store) -> Iterator[WebClient]:
    with site(store) as web:
        yield web


def test_without_redis_a_web_process_says_so(tmp_path: object) -> None:
    settings = Settings(redis_url=f"unix://{tmp_path}/none.sock")
    with site(Store(connect(settings.redis_url), settings)) as web:
        assert samples(web.get("/metrics").text)["digitq_redis_up", ()] == 0
