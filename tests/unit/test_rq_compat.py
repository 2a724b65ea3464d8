"""Tests of the parts of RQ's worker that are still used: signals, refusals, and the time for which results are kept."""

from __future__ import annotations

import signal
from dataclasses import replace

import pytest
import redis
from rq import Callback, Retry
from rq import Queue as RQQueue
from rq.defaults import DEFAULT_RESULT_TTL

from shared.store import Store
from tests.working import serving
from worker.queue.jobs import ForbiddenJob


@pytest.mark.parametrize(("ours", "kept"), [(100, 100), (10**6, DEFAULT_RESULT_TTL)])
def test_results_of_other_functions_are_kept_no_longer_than_ours(ours: int, kept: int, store: Store) -> None:
    store.settings = replace(store.settings, result_ttl_seconds=ours)
    with serving(store) as worker:
        assert worker.default_result_ttl == kept


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_stops_at_once(number: signal.Signals, store: Store) -> None:
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        with serving(store) as worker:
            worker.request_stop(number, None)
            assert worker.stopping
            assert signal.getsignal(signal.SIGINT) == signal.getsignal(signal.SIGTERM) == worker.request_force_stop
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def test_a_refused_job_runs_no_callback_though_that_is_allowed_and_is_not_retried(
    store: Store, client: redis.Redis
) -> None:
    queue = RQQueue("digitq", connection=client, serializer="json")
    job = queue.enqueue("os.mkdir", "never", on_failure=Callback("tests.jobs.on_failure"), retry=Retry(max=3))
    with serving(store) as worker:
        worker.run(worker.claimer.claim_batch())
    assert client.get("test:failure") is None
    assert job.get_status().value == "failed"


@pytest.mark.parametrize("interval", [0, 60], ids=["at once", "later"])
def test_a_failure_that_is_retried_is_no_end(interval: int, store: Store, client: redis.Redis) -> None:
    queue = RQQueue("digitq", connection=client, serializer="json")
    queue.enqueue("tests.jobs.double", 1, retry=Retry(max=1, interval=interval))
    with serving(store) as worker:
        for ended in (False, True):
            worker.enqueue_scheduled(int(store.time()) + 100)
            [claim] = worker.claimer.claim_batch()
            assert worker.fail(worker.load(claim), RuntimeError("a bug")) == ended


def test_a_failure_that_nobody_remembers_is_an_end_all_the_same(store: Store, client: redis.Redis) -> None:
    queue = RQQueue("digitq", connection=client, serializer="json")
    queue.enqueue("tests.jobs.double", 1, failure_ttl=0)
    with serving(store) as worker:
        [claim] = worker.claimer.claim_batch()
        with worker.heartbeat_thread.holding([claim], 5):
            assert worker.fail(worker.load(claim), ForbiddenJob("no"), refused=True)
