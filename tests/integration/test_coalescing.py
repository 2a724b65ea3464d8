"""Concurrent uploads are submitted with one call, and each has its own answer."""

from __future__ import annotations

import os
import signal
import threading
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from producer.serving.blocking import BlockingWaiting
from producer.serving.subscription import Subscription
from shared.connections.script_calls import ScriptCall
from shared.errors import QueueFull, RedisUnavailable
from shared.ids import new_id
from shared.store import Store
from shared.submission import Submission

PICTURES = [Submission(new_id(), b"1", str(n)) for n in range(20)]


class Slow(Store):
    """Its first call waits for `go`; it notes how many pictures each call had."""

    def __init__(self, store: Store) -> None:
        super().__init__(store.client, store.settings)
        self.go, self.calls = threading.Event(), list[int]()

    def submit_all(self, pictures: Sequence[Submission]) -> list[Any]:
        self.calls.append(len(pictures))
        self.go.wait(10)
        return super().submit_all(pictures)

    def submit_call(self, pictures: Sequence[Submission]) -> ScriptCall | None:
        call = super().submit_call(pictures)
        self.calls += [len(pictures)] if call else []
        return call


def submit_all_at_once(store: Slow, pictures: Sequence[Submission]) -> list[Any]:
    """All at once, the first one alone on its way; predictions or errors."""
    waiting = BlockingWaiting(store)

    def one(picture: Submission) -> Any:
        try:
            return waiting.submit(picture)
        except Exception as error:
            return error

    with ThreadPoolExecutor(len(pictures)) as pool:
        first = pool.submit(one, pictures[0])
        while not store.calls:
            time.sleep(0.001)
        rest = pool.map(one, pictures[1:])
        while waiting._waiting.uploads.gathered() < len(pictures) - 1:  # type: ignore[union-attr]
            time.sleep(0.001)
        store.go.set()
    waiting.close()
    return [first.result(), *rest]


def test_uploads_that_arrive_during_a_call_share_the_next_one(store: Store) -> None:
    slow = Slow(store)
    found = submit_all_at_once(slow, PICTURES)
    assert [one.filename for one in found] == [one.filename for one in PICTURES]
    assert len(slow.calls) == 2 and sum(slow.calls) == len(PICTURES)
    assert {store.fetch(one.id).filename for one in PICTURES} == {one.filename for one in PICTURES}


def test_each_has_its_own_answer(store: Store) -> None:
    found = submit_all_at_once(Slow(Store(store.client, replace(store.settings, queue_max_length=15))), PICTURES)
    assert sum(isinstance(one, QueueFull) for one in found) == 5
    queued = {picture.id for picture, one in zip(PICTURES, found, strict=True) if not isinstance(one, QueueFull)}
    assert {one.id for one in store.recent(100)[0]} == queued


def test_an_outage_is_reported_to_every_waiting_upload(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow(store)
    monkeypatch.setattr(Store, "run", lambda *_: (_ for _ in ()).throw(RedisUnavailable()))
    found = submit_all_at_once(slow, PICTURES)
    assert all(isinstance(one, RedisUnavailable) for one in found)
    assert len(slow.calls) == 1  # nobody waits for the same outage again


def test_a_forked_process_submits_on_threads_of_its_own(store: Store) -> None:
    waiting = BlockingWaiting(store)
    waiting.submit(PICTURES[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside threads is what is tested
        child = os.fork()
    if not child:
        signal.alarm(60)
        try:
            os._exit(waiting.submit(PICTURES[1]).state != "queued")
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    waiting.close()
    assert {one.id for one in store.recent(10)[0]} == {picture.id for picture in PICTURES[:2]}


def test_an_end_before_the_answer_that_nobody_heard_is_seen_with_the_answer(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The subscription is not there yet, and then it is, before the picture has its answer."""
    monkeypatch.setattr(Subscription, "start", lambda _: None)
    monkeypatch.setattr("producer.serving.waiting.LOOK_AGAIN_SECONDS", 60)

    class Quick(Store):
        def submit_all(self, pictures: Sequence[Submission]) -> list[Any]:
            answers = super().submit_all(pictures)
            store.cancel(pictures[0].id)
            waiting._loop.call_soon_threadsafe(waiting._waiting._missed)  # type: ignore[union-attr]
            return answers

    waiting = BlockingWaiting(Quick(store.client, store.settings))
    began = time.monotonic()
    assert waiting.submit(PICTURES[0], 20).state == "cancelled"
    assert time.monotonic() - began < 15
    waiting.close()
