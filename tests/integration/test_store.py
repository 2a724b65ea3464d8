"""The store while its server is full or down."""

from __future__ import annotations

import pytest
import redis

from shared.errors import RedisUnavailable
from shared.ids import new_id
from shared.prediction import State
from shared.settings import Settings
from shared.store import Store, connect
from tests.answering import finish


def test_a_server_without_memory_refuses_whole_and_says_so(store: Store, client: redis.Redis) -> None:
    queued = store.submit(b"1")
    client.config_set("maxmemory", 1)
    try:
        with pytest.raises(RedisUnavailable):
            store.submit(b"2")
        fenced, _ = finish(store)
        assert fenced == []
        assert store.fetch(queued.id).state is State.SUCCEEDED
    finally:
        client.config_set("maxmemory", 0)
    assert len(store.recent(10)[0]) == 1


def test_a_server_that_is_away_is_an_error_within_a_second() -> None:
    store = Store(connect("unix:///nowhere/redis.sock"), Settings())
    with pytest.raises(RedisUnavailable):
        store.fetch(new_id())
