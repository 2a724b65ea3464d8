"""A worker that stood still for longer than its lease, and wakes while RQ is about to write, changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis
from rq import Callback, Retry
from rq import Queue as RQQueue
from rq.job import Job

from shared import keys
from shared.prediction import State
from shared.store import Store
from tests.working import burst, serving
from worker.inference.classify import Classified
from worker.queue.rq_compat import RqWorker


def queue(client: redis.Redis) -> RQQueue:
    return RQQueue("digitq", connection=client, serializer="json")


def lose_leases(store: Store) -> None:
    for key in store.client.scan_iter("rq:wip:*"):
        store.client.zadd(key, dict.fromkeys(store.client.zrange(key, 0, -1), store.time() - 1))


def recover(store: Store) -> None:
    """Let another worker take over what has lost its lease."""
    lose_leases(store)
    with serving(store) as worker:
        worker.recovery.recover_leases()


def standing_still(patch: pytest.MonkeyPatch, owner: Any, step: str, meanwhile: Callable[[], None]) -> None:
    """Let something happen once before a step of RQ; then it goes on as if nothing was."""
    real = getattr(owner, step)

    def late(*args: Any, **options: Any) -> Any:
        patch.undo()
        meanwhile()
        return real(*args, **options)

    patch.setattr(owner, step, late)


def failing(_: object) -> Classified:
    raise RuntimeError("a bug")


def fail_once(store: Store) -> None:
    """Run a worker that claims a batch and fails it for a reason that is not the picture's."""
    with serving(store) as worker:
        worker.classifier.classify = failing
        worker.run(worker.claimer.claim_batch())


@pytest.mark.parametrize("retry", [Retry(max=2), Retry(max=2, interval=60)], ids=["at once", "later"])
def test_a_late_failure_does_not_requeue_a_picture_that_has_ended_since(
    retry: Retry, store: Store, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.set(keys.image("p"), b"7", ex=60)
    job = queue(client).enqueue(keys.JOB_FUNCTION, "p", job_id="p", retry=retry)
    ends = []

    def another_worker_ends_it() -> None:
        lose_leases(store)
        with serving(store) as worker:
            worker.recovery.recover_leases()
            worker.enqueue_scheduled(int(store.time()) + 100)
        burst(store)
        ends.append(store.fetch("p"))

    standing_still(monkeypatch, Job, "retry", another_worker_ends_it)
    fail_once(store)
    assert ends[0].state is State.SUCCEEDED
    assert store.fetch("p") == ends[0]
    assert len(job.results()) == 1 and not client.llen("rq:queue:digitq") and not client.zcard("rq:scheduled:digitq")


def test_a_late_failure_leaves_a_picture_to_the_worker_that_has_it(
    store: Store, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = store.submit(b"7").id
    held = []

    def another_worker_claims_it() -> None:
        lose_leases(store)
        with serving(store) as worker:
            worker.recovery.recover_leases()
        held.extend(store.claim("another", keys.QUEUES, 64, "n"))

    standing_still(monkeypatch, Job, "retry", another_worker_claims_it)
    fail_once(store)
    assert store.renew("another", held) == 1
    assert store.fetch(id).state is State.RUNNING and client.llen("rq:queue:digitq") == 0


def test_a_last_failure_that_comes_late_is_no_end(
    store: Store, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.set(keys.image("p"), b"7", ex=60)
    queue(client).enqueue(keys.JOB_FUNCTION, "p", job_id="p")
    standing_still(monkeypatch, Job, "_handle_failure", lambda: lose_leases(store))
    fail_once(store)
    assert store.fetch("p").state is State.RUNNING
    with serving(store) as worker:
        worker.recovery.recover_leases()
    assert (store.fetch("p").error or {})["code"] == "poison"


def test_a_job_of_anybodys_that_is_late_is_not_counted_twice(
    store: Store, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    callback = Callback("tests.jobs.on_failure")
    job = queue(client).enqueue("tests.jobs.double", 21, retry=Retry(max=1), on_failure=callback)
    workers: list[str] = []

    def another_worker_ends_it() -> None:
        lose_leases(store)
        with serving(store) as worker:
            worker.recovery.recover_leases()
            worker.run(worker.claimer.claim_batch())
            workers.append(worker.name)

    standing_still(monkeypatch, Job, "_handle_success", another_worker_ends_it)
    with serving(store) as worker:
        worker.run(worker.claimer.claim_batch())
        workers.append(worker.name)
    assert job.get_status().value == "finished" and len(job.results()) == 1
    assert [client.hget(f"rq:worker:{name}", "successful_job_count") for name in workers] == [b"1", None]
    assert client.get("test:failure") == b"1"  # RQ's recovery calls it; that the lease was lost is no failure


def test_a_job_of_anybodys_does_not_start_late(
    store: Store, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = queue(client).enqueue("tests.jobs.double", 21, retry=Retry(max=1))

    def another_worker_ends_it() -> None:
        recover(store)
        burst(store)
        monkeypatch.setattr(Job, "perform", lambda job: pytest.fail("ran again"))

    standing_still(monkeypatch, RqWorker, "perform_job", another_worker_ends_it)
    with serving(store) as worker:
        worker.run(worker.claimer.claim_batch())
    assert job.get_status().value == "finished" and len(job.results()) == 1


def again() -> Retry:
    return Retry(max=3)


def test_a_job_that_asks_to_be_run_again_is_not_put_back_late(
    store: Store, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.jobs.double", lambda number: again())
    job = queue(client).enqueue("tests.jobs.double", 21, retry=Retry(max=1))

    def another_worker_ends_it() -> None:
        recover(store)
        burst(store)

    standing_still(monkeypatch, Job, "_handle_retry_result", another_worker_ends_it)
    with serving(store) as worker:
        worker.run(worker.claimer.claim_batch())
    assert job.get_status().value == "finished" and client.llen("rq:queue:digitq") == 0


def test_a_late_end_leaves_nothing_of_a_job_that_was_deleted(
    store: Store, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = queue(client).enqueue("tests.jobs.double", 21)

    def it_is_deleted() -> None:
        lose_leases(store)
        job.delete()

    standing_still(monkeypatch, Job, "perform", it_is_deleted)
    with serving(store) as worker:
        worker.run(worker.claimer.claim_batch())
    assert [key for key in client.keys("rq:*") if job.id.encode() in key] == []
