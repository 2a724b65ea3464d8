"""A worker that waits for work."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import closing
from typing import Any

import pytest
import redis

from shared.connections.connection import connect
from shared.keys import Priority
from shared.store import Store
from tests.waits import until
from tests.working import serving
from worker.queue.wakeup import Wakeup


def test_an_idle_worker_starts_at_once_when_a_picture_comes(store: Store, settings: object) -> None:
    with serving(store) as worker:
        thread = threading.Thread(target=worker.wakeup.wait, args=[10])
        thread.start()
        until(lambda: store.client.info("clients")["blocked_clients"])
        start = time.monotonic()
        store.submit(b"7", priority=Priority.LOW)
        thread.join(5)
        assert time.monotonic() - start < 5
        assert [claim.image for claim in worker.claimer.claim_batch()] == [b"7"]


def test_a_wait_that_cannot_be_sent_takes_no_connection_with_it(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = redis.Connection.send_command

    def reset(connection: redis.Connection, *words: Any, **options: Any) -> None:
        if words[0] == "BLMOVE":
            raise redis.ConnectionError("reset by peer")
        send(connection, *words, **options)  # type: ignore[no-untyped-call]

    with connect(redis_url, connections=2) as client, closing(Wakeup(client, ["digitq"])) as wakeup:
        with monkeypatch.context() as broken:
            broken.setattr(redis.connection.AbstractConnection, "send_command", reset)
            for _ in range(3):
                with pytest.raises(redis.ConnectionError, match="reset by peer"):
                    wakeup.wait(0)
        wakeup.wait(0)


def test_a_worker_that_is_told_to_stop_does_not_wait_on_and_waits_again_afterwards(store: Store) -> None:
    with serving(store) as worker:
        worker.wakeup.SERVER_TIMEOUT = 60  # Redis alone would end the wait sooner
        start = time.monotonic()
        worker.request_stop(signal.SIGTERM, None)
        worker.wakeup.wait(20)
        assert time.monotonic() - start < 10
        woken = time.monotonic()
        worker.wakeup.wait(0.2)
        assert time.monotonic() - woken >= 0.2  # one signal ends one wait
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_each_queue_is_asked_once_however_often_a_worker_waits(store: Store, client: redis.Redis) -> None:
    with serving(store) as worker:
        for _ in range(3):
            worker.wakeup.wait(0.01)
        waiting = [one for one in client.client_list() if one["cmd"] == "blmove"]
        assert len(waiting) == 3
        client.config_resetstat()
        store.submit(b"7")
        worker.wakeup.wait(20)
        worker.wakeup.wait(0.01)
        calls = client.info("commandstats")["cmdstat_blmove"]["calls"]
        assert calls <= 3
