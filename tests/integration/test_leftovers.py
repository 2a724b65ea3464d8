"""Redis after every TTL has passed: nothing is left but the keys named in shared/README.md."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import redis
from rq import Queue as RQQueue
from rq import SimpleWorker
from rq.job import Job

from shared import ROOT, keys
from shared.store import Store
from tests.leftovers import (
    FOR_A_WHILE,
    FOR_EVER,
    Service,
    day,
    faked_classifier,
    kinds_of,
    left,
    wait_until_nothing_is_left,
)
from worker.queue.batch_worker import BatchWorker

TTL = 2
DAY = 86_400


@pytest.fixture
def queue(client: redis.Redis) -> RQQueue:
    return RQQueue("digitq", connection=client, serializer="json")


@pytest.fixture
def worker(store: Store) -> Iterator[BatchWorker]:
    from tests import fakes

    one = BatchWorker(store, fakes.classify, allowed=["tests.jobs.explode", "tests.jobs.double"])
    yield one
    one.wakeup.close()


def age(client: redis.Redis, registry: str, id: str, seconds: float) -> None:
    """An entry of one of RQ's registries was made so long ago."""
    client.zincrby(registry, -seconds, id)


def test_nothing_is_left_of_a_day_when_everybodys_time_is_over(
    client: redis.Redis, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIGITQ_RESULT_TTL_SECONDS", str(TTL))  # for worker.tasks
    hasty = replace(store.settings, result_ttl_seconds=TTL, rate_limit="300/2 seconds")
    with faked_classifier(), Service.on(client, hasty) as service:
        day(service, 300)
        assert left(client), "there was nothing to expire"
        rest = wait_until_nothing_is_left(service)
    assert rest == {}, kinds_of(rest)


def test_the_protocol_says_what_stays() -> None:
    told = (ROOT / "shared" / "README.md").read_text().partition("## Keys that remain\n")[2].partition("\n## ")[0]
    for name in (*FOR_EVER, *FOR_A_WHILE):
        assert f"`{name}" in told, name


@pytest.mark.parametrize("function", [keys.JOB_FUNCTION, "tests.jobs.explode"])
def test_a_plain_job_that_fails_is_kept_for_our_ttl_and_not_for_a_year(
    function: str, client: redis.Redis, queue: RQQueue, worker: BatchWorker
) -> None:
    client.set(keys.image("p"), b"undecodable", ex=600)
    job = queue.enqueue(function, *(["p"] if function == keys.JOB_FUNCTION else []), job_id="p")
    worker.work(burst=True, logging_level="CRITICAL")
    assert job.get_status() == "failed"
    for key in ("rq:job:p", "rq:results:p"):
        assert DAY - 60 < client.ttl(key) <= DAY, key
    assert client.zscore("rq:failed:digitq", "p") < worker.store.time() + DAY + 1  # type: ignore[operator]


def test_a_stock_worker_keeps_a_picture_that_fails_for_our_ttl(client: redis.Redis, queue: RQQueue) -> None:
    client.set(keys.image("p"), b"undecodable", ex=600)
    queue.enqueue(keys.JOB_FUNCTION, "p", job_id="p")
    with faked_classifier():
        SimpleWorker([queue], connection=client, serializer="json").work(burst=True, logging_level="CRITICAL")
    for key in ("rq:job:p", "rq:results:p"):
        assert DAY - 60 < client.ttl(key) <= DAY, key


def test_what_a_client_says_itself_is_kept(client: redis.Redis, queue: RQQueue, worker: BatchWorker) -> None:
    queue.enqueue("tests.jobs.explode", job_id="p", failure_ttl=2 * DAY)
    worker.work(burst=True, logging_level="CRITICAL")
    assert client.ttl("rq:job:p") > DAY  # type: ignore[operator]


def test_a_job_that_was_cancelled_with_rqs_tools_goes_with_its_registry(
    client: redis.Redis, queue: RQQueue, worker: BatchWorker
) -> None:
    for id in ("old", "young", "again"):
        queue.enqueue("tests.jobs.double", 1, job_id=id).cancel()
    age(client, "rq:canceled:digitq", "old", DAY + 1)
    age(client, "rq:canceled:digitq", "again", DAY + 1)
    client.hset("rq:job:again", "status", "queued")  # somebody is putting it back at this moment
    worker.recovery.clean_registries()
    assert client.zrange("rq:canceled:digitq", 0, -1) == [b"young"]
    assert [bool(client.exists(f"rq:job:{id}")) for id in ("old", "young", "again")] == [False, True, True]


def test_a_cancelled_picture_does_not_drive_others_out_of_the_registry_before_their_jobs(
    client: redis.Redis, store: Store, queue: RQQueue, worker: BatchWorker
) -> None:
    queue.enqueue("tests.jobs.double", 1, job_id="old").cancel()
    age(client, "rq:canceled:digitq", "old", DAY + 1)
    store.cancel(store.submit(b"7").id)
    worker.recovery.clean_registries()
    assert not client.exists("rq:job:old")


def test_a_job_that_waits_for_what_is_gone_goes_too(client: redis.Redis, queue: RQQueue, worker: BatchWorker) -> None:
    first = queue.enqueue("tests.jobs.explode", job_id="first")
    for id in ("vain", "waiting", "young"):
        queue.enqueue("tests.jobs.double", 1, job_id=id, depends_on=first)
    other = queue.enqueue("tests.jobs.double", 1, job_id="other")
    client.sadd("rq:job::waiting:dependencies", other.id)
    client.delete("rq:job:first")
    for id in ("vain", "waiting"):
        age(client, "rq:deferred:digitq", id, DAY + 1)
    worker.recovery.clean_registries()
    assert sorted(client.zrange("rq:deferred:digitq", 0, -1)) == [b"waiting", b"young"]
    assert not client.exists("rq:job:vain", "rq:job::vain:dependencies")
    assert client.exists("rq:job:waiting", "rq:job:young") == 2


def test_a_dependent_picture_leaves_no_list_of_its_dependencies(
    client: redis.Redis, queue: RQQueue, worker: BatchWorker
) -> None:
    first = queue.enqueue("tests.jobs.double", 1, job_id="first")
    client.set(keys.image("second"), b"7", ex=600)
    with faked_classifier():
        second = queue.enqueue(keys.JOB_FUNCTION, "second", job_id="second", depends_on=first)
        worker.work(burst=True, logging_level="CRITICAL")
    assert Job.fetch(second.id, connection=client, serializer="json").return_value()["digit"] == 7
    assert [name for name in client.keys("*dependen*") if client.ttl(name) == -1] == []


def test_a_worker_that_rq_has_forgotten_is_not_remembered_for_ever(client: redis.Redis, store: Store) -> None:
    store.submit(b"7")
    [claim] = store.claim("w", keys.QUEUES, 1, "n")
    assert client.ttl("rq:worker:w") > 0  # type: ignore[operator]
    client.delete("rq:worker:w")
    store.finish("w", [])
    assert client.ttl("rq:worker:w") > 0, claim  # type: ignore[operator]


def test_a_long_registry_is_trimmed_in_steps(
    client: redis.Redis, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.operations.maintenance.TRIMMED_AT_ONCE", 10)
    monkeypatch.setattr("shared.operations.maintenance.TRIM_SECONDS", 60)
    client.zadd("rq:canceled:digitq", {f"old-{n}": 1 for n in range(95)})
    assert store.trim_registries(keys.QUEUES) == 95
    assert not client.exists("rq:canceled:digitq")
