"""Batches, where Redis is full."""

from __future__ import annotations

import pytest
import redis

from shared.batches import Batches
from shared.chunks import raw
from shared.errors import (
    RedisUnavailable,
)
from shared.store import Store


@pytest.fixture
def batches(store: Store) -> Batches:
    return Batches(store)


def test_a_full_redis_refuses_a_batch_whole(batches: Batches, client: redis.Redis) -> None:
    used = client.info("memory")["used_memory"]
    client.config_set("maxmemory", used + 3_000_000)
    try:
        with pytest.raises(RedisUnavailable):
            batches.submit([raw(bytes(256 * 784), 28, 28)] * 100)
        left = client.keys("*")
    finally:
        client.config_set("maxmemory", 0)
    assert left == []
