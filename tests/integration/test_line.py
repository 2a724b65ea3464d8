"""The event loop asks Redis itself; a thread makes the connection, and mends whatever goes wrong."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis

from producer.serving.blocking import BlockingWaiting
from producer.serving.line import SENT_AT_ONCE
from shared import keys
from shared.connections.connection import connect
from shared.errors import RedisUnavailable
from shared.ids import new_id
from shared.store import Store
from shared.submission import Submission
from tests.waits import until
from tests.web import sevens
from verify.proxy import Proxy


class Watched(Store):
    """Notes how many pictures each call of the thread had."""

    def __init__(self, store: Store) -> None:
        super().__init__(store.client, store.settings)
        self.calls = list[int]()

    def submit_all(self, pictures: Sequence[Submission]) -> list[Any]:
        self.calls.append(len(pictures))
        return super().submit_all(pictures)


@pytest.fixture
def proxy(redis_url: str) -> Iterator[Proxy]:
    with closing(Proxy(Path(redis_url.removeprefix("unix://")))) as proxy:
        yield proxy


@pytest.fixture
def watched(proxy: Proxy, store: Store) -> Iterator[Watched]:
    """A store behind the proxy, whose server has just been checked."""
    url = f"redis://127.0.0.1:{proxy.port}"
    with connect(url) as client:
        yield Watched(Store(client, replace(store.settings, redis_url=url)))


@pytest.fixture
def waiting(watched: Watched) -> Iterator[BlockingWaiting]:
    """Its thread has submitted a picture, and has connected the loop."""
    with closing(BlockingWaiting(watched)) as waiting:
        submit(waiting)
        connected(waiting)
        assert watched.calls == [1]
        yield waiting


def submit(waiting: BlockingWaiting, image: bytes = b"1") -> str:
    return waiting.submit(Submission(new_id(), image)).id


def connected(waiting: BlockingWaiting) -> None:
    until(lambda: waiting._waiting.uploads._calls._line is not None, 10)  # type: ignore[union-attr]


def test_once_connected_the_loop_submits_without_a_thread(
    waiting: BlockingWaiting, watched: Watched, store: Store
) -> None:
    ids = {submit(waiting) for _ in range(20)}
    assert watched.calls == [1]
    assert ids <= {one.id for one in store.recent(100)[0]}


def test_a_large_picture_is_left_to_the_thread(waiting: BlockingWaiting, watched: Watched, store: Store) -> None:
    large = bytes(SENT_AT_ONCE + 1)
    assert store.image(submit(waiting, large)) == large
    assert watched.calls == [1, 1]


def test_a_connection_that_was_cut_loses_no_picture(
    waiting: BlockingWaiting, watched: Watched, store: Store, proxy: Proxy
) -> None:
    proxy.cut()
    ids = [submit(waiting) for _ in range(3)]
    assert [one.id for one in store.recent(3)[0]] == ids[::-1]
    connected(waiting)
    calls = len(watched.calls)
    submit(waiting)
    assert len(watched.calls) == calls  # it has another one


def test_a_script_that_redis_has_forgotten_is_loaded_again(
    waiting: BlockingWaiting, watched: Watched, store: Store
) -> None:
    store.client.script_flush()
    ids = [submit(waiting)]
    connected(waiting)
    ids.append(submit(waiting))
    assert watched.calls == [1, 1]
    assert [one.id for one in store.recent(2)[0]] == ids[::-1]


def test_a_redis_that_does_not_answer_is_told_in_time_and_asked_anew(
    waiting: BlockingWaiting, store: Store, proxy: Proxy
) -> None:
    proxy.deafen()
    time.sleep(0.05)
    began = time.monotonic()
    with pytest.raises(RedisUnavailable, match="does not answer in time"):
        submit(waiting)
    assert 0.6 < time.monotonic() - began < 5
    id = submit(waiting)
    assert store.recent(1)[0][0].id == id


def test_a_connection_is_not_trusted_after_a_neighbour_has_failed(
    waiting: BlockingWaiting, watched: Watched, proxy: Proxy
) -> None:
    watched.client.ping()
    proxy.deafen()
    time.sleep(0.05)
    with pytest.raises(redis.TimeoutError):
        watched.client.ping()
    submit(waiting)
    assert watched.calls == [1, 1]


def test_a_connection_to_a_primary_that_was_demoted_is_given_up_with_the_idle_ones(
    waiting: BlockingWaiting, watched: Watched
) -> None:
    watched.client.connection_pool.disconnect(inuse_connections=False)  # as the check of the server does
    submit(waiting)
    assert watched.calls == [1, 1]


def test_a_connection_that_refuses_is_given_up(waiting: BlockingWaiting, watched: Watched, store: Store) -> None:
    store.client.script_flush()
    refused = waiting._waiting.uploads._calls._line  # type: ignore[union-attr]
    submit(waiting)
    connected(waiting)
    assert waiting._waiting.uploads._calls._line is not refused  # type: ignore[union-attr]


def test_a_script_that_fails_is_tried_again_and_its_error_raised(
    waiting: BlockingWaiting, watched: Watched, store: Store
) -> None:
    store.client.set("rq:queue:digitq", "no list")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        submit(waiting)
    assert watched.calls == [1, 1]


def test_a_submission_that_cannot_be_sent_fails_for_its_caller_alone(waiting: BlockingWaiting, store: Store) -> None:
    with pytest.raises(TypeError):
        waiting.submit(Submission(new_id(), b"1", "\ud800"))
    id = submit(waiting)
    assert store.recent(1)[0][0].id == id


def test_news_are_not_made_a_text_for_the_log_of_redis_py(
    waiting: BlockingWaiting, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[object] = []
    monkeypatch.setattr("redis._parsers.hiredis._HiredisParser.handle_pubsub_push_response", made.append)
    with sevens(store):
        assert waiting.submit(Submission(new_id(), b"1"), 50).digit == 7
    assert not made


def test_news_that_cannot_be_read_keep_nobody_from_the_next(
    waiting: BlockingWaiting, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("producer.serving.waiting.LOOK_AGAIN_SECONDS", 60)
    with ThreadPoolExecutor() as pool:
        waits = pool.submit(waiting.submit, Submission(new_id(), b"1"), 50)
        while not store.client.pubsub_numsub(keys.EVENTS)[0][1]:  # type: ignore[index]
            time.sleep(0.01)
        store.client.publish(keys.EVENTS, "no JSON")
        with sevens(store):
            assert waits.result(45).digit == 7
