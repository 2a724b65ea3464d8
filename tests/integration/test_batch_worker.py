"""A worker that waits for work."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from typing import Any

import pytest
import redis

from shared.connections.connection import connect
from shared.keys import Priority
from shared.store import Store
from tests.working import serving
from worker.queue.wakeup import Wakeup


def test_an_idle_worker_starts_at_once_when_a_picture_comes(store: Store, settings: object) -> None:
    with serving(store) as worker:
        thread = threading.Thread(target=worker.wakeup.wait, args=[10])
        thread.start()
        time.sleep(0.3)
        start = time.monotonic()
        store.submit(b"7", priority=Priority.LOW)
        thread.join(5)
        assert time.monotonic() - start < 1
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
