"""Uploads that come together are handed in together, and each has its own answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import redis

from producer.serving.waiting import Waiters
from shared.errors import QueueFull, RedisUnavailable
from shared.ids import new_id
from shared.store import Store
from shared.submission import Submission

PICTURES = [Submission(new_id(), b"1", str(n)) for n in range(20)]


class Slow(Store):
    """Its calls wait for `go`; it notes how many pictures each call had."""

    def __init__(self, store: Store) -> None:
        super().__init__(store.client, store.settings)
        self.go, self.calls = threading.Event(), list[int]()

    def submit_all(self, pictures: Sequence[Submission]) -> list[Any]:
        self.calls.append(len(pictures))
        self.go.wait(10)
        return super().submit_all(pictures)


def hand_in(store: Slow, pictures: Sequence[Submission]) -> list[Any]:
    """All at once, the first one alone on its way; predictions or errors."""
    waiters = Waiters(store, limit=len(pictures))

    def one(picture: Submission) -> Any:
        try:
            return waiters.submit(picture)
        except Exception as error:
            return error

    with ThreadPoolExecutor(len(pictures)) as pool:
        first = pool.submit(one, pictures[0])
        while not store.calls:
            time.sleep(0.001)
        rest = pool.map(one, pictures[1:])
        while waiters.uploads.waiting() < len(pictures) - 1:
            time.sleep(0.001)
        store.go.set()
    waiters.close()
    return [first.result(), *rest]


def test_what_comes_while_one_is_on_its_way_goes_together(store: Store) -> None:
    slow = Slow(store)
    found = hand_in(slow, PICTURES)
    assert [one.filename for one in found] == [one.filename for one in PICTURES]
    assert len(slow.calls) == 2 and sum(slow.calls) == len(PICTURES)
    assert {store.fetch(one.id).filename for one in PICTURES} == {one.filename for one in PICTURES}


def test_each_has_its_own_answer(store: Store) -> None:
    found = hand_in(Slow(Store(store.client, replace(store.settings, queue_max_length=15))), PICTURES)
    assert sum(isinstance(one, QueueFull) for one in found) == 5
    queued = {picture.id for picture, one in zip(PICTURES, found, strict=True) if not isinstance(one, QueueFull)}
    assert {one.id for one in store.recent(100)[0]} == queued


def test_an_outage_is_told_to_all_who_wait(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow(store)
    monkeypatch.setattr(Store, "run", lambda *_: (_ for _ in ()).throw(RedisUnavailable()))
    found = hand_in(slow, PICTURES)
    assert all(isinstance(one, RedisUnavailable) for one in found)
    assert len(slow.calls) == 1  # nobody waits for the same outage again


def test_it_serves_again_after_it_was_closed(store: Store, client: redis.Redis) -> None:
    waiters = Waiters(store, limit=1)
    waiters.submit(PICTURES[0])
    waiters.uploads.close()
    waiters.submit(PICTURES[1])
    waiters.close()
    assert client.llen("rq:queue:digitq") == 2


def test_an_end_before_the_answer_that_nobody_heard_is_seen_with_the_answer(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The listening thread is deaf, as while it connects, and then says so, before the picture has its answer."""
    monkeypatch.setattr(Waiters, "_listen", lambda _: None)
    monkeypatch.setattr("producer.serving.waiting.LOOK_AGAIN_SECONDS", 60)

    class Quick(Store):
        def submit_all(self, pictures: Sequence[Submission]) -> list[Any]:
            answers = super().submit_all(pictures)
            store.cancel(pictures[0].id)
            waiters._tell_all_to_look()
            (inbox,) = waiters._inboxes[pictures[0].id]
            while not inbox._items.empty():  # type: ignore[attr-defined]  # a thread waits here
                pass
            return answers

    waiters = Waiters(Quick(store.client, store.settings), limit=1)
    began = time.monotonic()
    assert waiters.submit(PICTURES[0], 20).state == "cancelled"
    assert time.monotonic() - began < 15
    waiters.close()
