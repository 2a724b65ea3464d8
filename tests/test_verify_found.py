"""Regressions that `digitq verify` has found."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress

import pytest
from rq import registry

from shared import ROOT, keys
from shared.errors import RedisUnavailable
from shared.prediction import State
from shared.standalone.up import http_ok
from shared.store import Store
from tests.fakes import classify
from tests.waits import until
from worker.queue.batch_worker import BatchWorker


@pytest.fixture
def worker(store: Store) -> Iterator[BatchWorker]:
    worker = BatchWorker(store, classify)
    yield worker
    worker.wakeup.close()


def test_a_worker_whose_clock_is_an_hour_ahead_takes_nothing_from_the_others(
    store: Store, worker: BatchWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = store.submit(b"7").id
    assert len(store.claim("other", keys.QUEUES, 1, "nonce")) == 1
    now = registry.current_timestamp
    monkeypatch.setattr(registry, "current_timestamp", lambda: now() + 3600)
    worker.recovery.run_if_due(burst=True)
    assert store.fetch(id).state is State.RUNNING
    assert [claim.id for claim in store.claim("w", keys.QUEUES, 1, "other")] == []


def test_a_recovery_that_fails_gives_its_turn_back(
    store: Store, worker: BatchWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted() -> None:
        raise RedisUnavailable

    monkeypatch.setattr(worker.recovery, "recover_leases", interrupted)
    with pytest.raises(RedisUnavailable):
        worker.recovery.run_if_due(burst=True)
    assert store.recovery_turn("other")


def test_a_killed_web_process_leaves_no_child_on_its_port() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("DIGITQ_")}
    env = {**clean, "REDIS_URL": "redis://127.0.0.1:1", "DIGITQ_PORT": str(port)}
    web = subprocess.Popen([sys.executable, "-m", "digitq", "web"], cwd=ROOT, env=env, start_new_session=True)
    try:
        until(lambda: http_ok(f"http://127.0.0.1:{port}/healthz"), 30)
        web.kill()
        web.wait()
        until(lambda: not http_ok(f"http://127.0.0.1:{port}/healthz"), 5)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(web.pid, signal.SIGKILL)
