"""The batching worker against a real server, with a stand-in for the model."""

from __future__ import annotations

import json
import logging
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
from rq import Callback, Retry, Webhook
from rq import Queue as RQQueue
from rq.job import Dependency, Job

from shared import keys
from shared.claims import Claim, as_json
from shared.keys import Priority
from shared.prediction import State
from shared.store import Store
from tests import fakes
from tests.fakes import Sure
from tests.waits import until
from tests.working import burst, serving
from worker.inference.classify import Classified, Classifier
from worker.queue.jobs import image_id


def rq_queue(client: redis.Redis, name: str = "digitq") -> RQQueue:
    return RQQueue(name, connection=client, serializer="json")


def test_a_batch_is_classified_and_finished_together(store: Store) -> None:
    ids = [store.submit(str(i % 10).encode()).id for i in range(100)]
    burst(store)
    found = [store.fetch(id) for id in ids]
    assert [one.digit for one in found] == [i % 10 for i in range(100)]
    assert {(one.batch or {})["size"] for one in found} == {64, 36}
    assert {one.model for one in found} == {"fake-1"}


def test_one_undecodable_picture_of_64_fails_alone(store: Store) -> None:
    ids = [store.submit(b"undecodable" if i == 40 else b"7").id for i in range(64)]
    burst(store)
    found = [store.fetch(id) for id in ids]
    assert [i for i, one in enumerate(found) if one.state is not State.SUCCEEDED] == [40]
    assert (found[40].error, found[40].attempt) == (
        {"code": "undecodable_image", "message": "The image cannot be decoded"},
        1,
    )


def test_a_picture_that_fails_the_whole_batch_fails_alone(store: Store) -> None:
    ids = [store.submit(b"poison-batch" if i == 3 else b"7").id for i in range(8)]
    burst(store)
    found = [store.fetch(id) for id in ids]
    assert [i for i, one in enumerate(found) if one.state is not State.SUCCEEDED] == [3]
    assert found[3].error == {"code": "internal_error", "message": "The picture could not be classified."}
    assert found[3].attempt == store.settings.max_attempts


def test_a_picture_that_takes_too_long_is_cut_and_its_neighbours_succeed(client: redis.Redis, store: Store) -> None:
    hasty = Store(client, replace(store.settings, job_timeout_seconds=1, max_attempts=1))
    ids = [hasty.submit(image).id for image in (b"1", b"slow", b"2")]
    burst(hasty)
    found = [hasty.fetch(id) for id in ids]
    assert [one.digit for one in found] == [1, None, 2]
    assert (found[1].error or {})["code"] == "timeout"


def test_a_picture_whose_bytes_are_gone_expires(store: Store, client: redis.Redis) -> None:
    id = store.submit(b"7").id
    client.delete(keys.image(id))
    burst(store)
    assert store.fetch(id).state is State.EXPIRED


def test_an_abandoned_job_is_taken_over_and_runs_alone(store: Store) -> None:
    ids = [store.submit(b"7").id for _ in range(3)]
    store.claim("dead-worker", keys.QUEUES, 64, "n")
    store.client.zadd(keys.running("digitq"), dict.fromkeys(store.client.zrange(keys.running("digitq"), 0, -1), 1.0))
    burst(store)
    found = [store.fetch(id) for id in ids]
    assert [(one.state, one.attempt, (one.batch or {})["size"]) for one in found] == [(State.SUCCEEDED, 2, 1)] * 3


def test_a_picture_that_outlives_too_many_workers_is_poison(client: redis.Redis, store: Store) -> None:
    id = store.submit(b"7").id
    for attempt in range(1, store.settings.max_attempts + 1):
        [claim] = store.claim(f"dead-{attempt}", keys.QUEUES, 64, "n")
        assert claim.attempt == attempt
        client.zadd("rq:wip:digitq", {f"{id}:{claim.execution}": store.time() - 1})
        with serving(store) as worker:
            worker.recovery.recover_leases()
    found = store.fetch(id)
    assert (found.state, (found.error or {})["code"]) == (State.FAILED, "poison")
    assert Job.fetch(id, connection=client, serializer="json").get_status().value == "failed"


def test_recovery_by_another_process_is_visible_to_readers(client: redis.Redis, store: Store) -> None:
    id = store.submit(b"7").id
    [claim] = store.claim("dead", keys.QUEUES, 64, "n")
    client.zadd("rq:wip:digitq", {f"{id}:{claim.execution}": store.time() - 1})
    assert rq_queue(client).started_job_registry.count == 0  # RQ cleans up when it counts
    assert store.fetch(id).state is State.QUEUED


def test_a_late_requeue_does_not_run_a_claimed_picture_again(client: redis.Redis, store: Store) -> None:
    id = store.submit(b"7").id
    store.claim("dead", keys.QUEUES, 64, "n")
    late = Job.fetch(id, connection=client, serializer="json")
    client.zremrangebyscore("rq:wip:digitq", "-inf", "+inf")
    with client.pipeline() as pipeline:
        late.retry(rq_queue(client), pipeline)
        pipeline.execute()
    [held] = store.claim("c", keys.QUEUES, 64, "m")
    with client.pipeline() as pipeline:  # a second recovery, which has read before the claim, writes after it
        late.retry(rq_queue(client), pipeline)
        pipeline.execute()
    assert store.claim("d", keys.QUEUES, 64, "o") == []
    assert store.renew("c", [held]) == 1
    assert late.get_status().value == "started"


def test_an_absurd_time_to_live_takes_rqs_path(store: Store, client: redis.Redis) -> None:
    client.set(keys.image("p"), b"7", ex=60)
    rq_queue(client).enqueue(keys.JOB_FUNCTION, "p", result_ttl=10**18)
    [claim] = store.claim("w", keys.QUEUES, 64, "n")
    assert not claim.batchable


def test_a_job_that_ended_without_an_answer_does_not_leave_its_record_open(store: Store, client: redis.Redis) -> None:
    id = store.submit(b"7").id
    store.claim("w", keys.QUEUES, 64, "n")
    client.hset(f"rq:job:{id}", "status", "finished")
    assert (store.fetch(id).error or {})["code"] == "lost"


def test_a_worker_that_redis_has_forgotten_registers_again(store: Store, client: redis.Redis) -> None:
    with serving(store) as worker:
        worker.register_birth()
        client.flushall()
        client.hset(worker.key, "state", "idle")
        worker.heartbeat_thread.beat()
        assert client.sismember("rq:workers", worker.key)
        assert client.hget(worker.key, "pid") is not None


def test_low_priority_moves_under_a_flood_of_high(client: redis.Redis, store: Store) -> None:
    small = Store(client, replace(store.settings, batch_max_size=4))
    low = small.submit(b"1", priority=Priority.LOW).id
    for _ in range(100):
        small.submit(b"7", priority=Priority.HIGH)
    with serving(small) as worker:
        for _ in range(8):
            worker.run(worker.claimer.claim_batch())
    assert small.fetch(low).state is State.SUCCEEDED
    assert client.llen("rq:queue:digitq-high") > 0


def test_a_stop_signal_finishes_the_current_batch_and_leaves_the_rest(client: redis.Redis, store: Store) -> None:
    small = Store(client, replace(store.settings, batch_max_size=2))
    ids = [small.submit(b"7").id for _ in range(6)]
    with serving(small) as worker:

        def stop_in_the_middle(images: Sequence[bytes]) -> Classified:
            worker.request_stop(signal.SIGTERM, None)
            return fakes.classify(images)

        worker.classifier.classify = stop_in_the_middle
        worker.work()
    assert [small.fetch(id).state for id in ids] == [State.SUCCEEDED] * 2 + [State.QUEUED] * 4
    assert [small.fetch(id).attempt for id in ids] == [1, 1, 0, 0, 0, 0]


def test_what_a_batch_does_not_come_to_waits_again_as_if_never_claimed(store: Store) -> None:
    ids = [store.submit(str(i).encode()).id for i in range(5)]
    with serving(store) as worker:
        worker.classifier.classify = lambda images: fakes.classify(images[:2])
        worker.run(worker.claimer.claim_batch())
        found = [store.fetch(id) for id in ids]
        assert [(one.digit, one.attempt, one.queue_position) for one in found] == [
            (0, 1, None), (1, 1, None), (None, 0, 0), (None, 0, 1), (None, 0, 2)
        ]  # fmt: skip
        assert [claim.id for claim in worker.claimer.claim_batch()] == ids[2:]


def test_a_worker_survives_the_server_and_goes_on(
    store: Store, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    errors = [redis.ConnectionError("gone")]
    id = store.submit(b"7").id
    with serving(store) as worker, caplog.at_level(logging.WARNING):
        claim_batch = worker.claimer.claim_batch

        def flaky() -> list[Claim]:
            if errors:
                raise errors.pop()
            return claim_batch()

        worker.claimer.claim_batch = flaky  # type: ignore[method-assign]
        worker.work(burst=True)
    assert store.fetch(id).state is State.SUCCEEDED
    assert "gone" in caplog.text


def test_a_lease_may_be_a_fraction_of_a_second(client: redis.Redis, store: Store) -> None:
    odd = Store(client, replace(store.settings, lease_seconds=2.5))
    id = odd.submit(b"7").id
    claims = odd.claim("w", keys.QUEUES, 64, "n")
    assert odd.renew("w", claims) == 1
    assert odd.fetch(id).state is State.RUNNING


def test_a_batch_is_closed_before_it_grows_heavier_than_its_lease_can_carry(store: Store) -> None:
    for _ in range(6):
        store.submit(bytes(6 * 1024 * 1024))
    assert [len(store.claim("w", keys.QUEUES, 64, str(i))) for i in range(3)] == [3, 3, 0]


def test_the_heartbeat_outlives_a_server_that_is_away(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(store) as worker:
        errors = [redis.ConnectionError("gone"), ValueError("a bug")]
        monkeypatch.setattr(worker.heartbeat_thread, "_on_beat", lambda: errors and (_ for _ in ()).throw(errors.pop()))
        worker.heartbeat_thread.start()
        until(lambda: not errors)
        store.client.delete(keys.WORKERS)
        until(lambda: store.client.exists(keys.WORKERS))
        worker.heartbeat_thread.stop()


def test_a_job_deleted_after_the_claim_leaves_nothing_behind(store: Store, client: redis.Redis) -> None:
    id = store.submit(b"7").id
    with serving(store) as worker:
        claims = worker.claimer.claim_batch()
        Job.fetch(id, connection=client, serializer="json").delete()
        worker.run(claims)
        theirs = rq_queue(client).enqueue("tests.jobs.double", 21)
        claims = worker.claimer.claim_batch()
        theirs.delete()
        worker.run(claims)
    assert [key for key in client.keys("rq:*") if id.encode() in key or theirs.id.encode() in key] == []
    assert client.zcard("rq:wip:digitq") == 0


# ---------------------------------------------------------------------- other people's jobs


@pytest.mark.parametrize("field", ["timeout", "result_ttl", "failure_ttl", "created_at"])
def test_a_job_that_cannot_be_parsed_fails_alone(field: str, store: Store, client: redis.Redis) -> None:
    client.set(keys.image("p"), b"7", ex=60)
    bad = rq_queue(client).enqueue(keys.JOB_FUNCTION, "p")
    client.hset(f"rq:job:{bad.id}", field, "abc")
    good = store.submit(b"7").id
    burst(store)
    assert store.fetch(good).state is State.SUCCEEDED
    assert client.zcard("rq:wip:digitq") == 0
    assert client.hget(f"rq:job:{bad.id}", "status") in (b"failed", b"finished")


def test_recovery_does_not_run_a_callback_off_the_list(store: Store, client: redis.Redis) -> None:
    callback = Callback("tests.jobs.never")
    job = rq_queue(client).enqueue("tests.jobs.double", 21, on_failure=callback)
    [claim] = store.claim("dead", keys.QUEUES, 64, "n")
    client.zadd("rq:wip:digitq", {f"{job.id}:{claim.execution}": store.time() - 1})
    with serving(store) as worker:
        worker.recovery.recover_leases()
    assert job.get_status().value == "failed"
    assert client.get("test:never") is None


def test_the_webhooks_of_rqs_jobs_are_not_called(
    store: Store, client: redis.Redis, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    called: list[str] = []
    monkeypatch.setattr("rq.webhook.urlopen", lambda request, timeout: called.append(request.full_url))
    monkeypatch.setattr("worker.tasks.classifier", lambda: Classifier(Sure(), 10**6))
    url = "http://169.254.169.254/?token=hunter2"
    webhooks = [Webhook(url, "finished"), Webhook(url, "failed", method="POST")]
    client.set(keys.image("p"), b"7", ex=60)
    calls = [(keys.JOB_FUNCTION, "p"), ("tests.jobs.double", 21), ("tests.jobs.explode",), ("tests.jobs.never", 1)]
    jobs = [rq_queue(client).enqueue(*call, webhooks=webhooks) for call in calls]
    burst(store)
    assert [job.get_status().value for job in jobs] == ["failed", "finished", "failed", "failed"]
    abandoned = rq_queue(client).enqueue("tests.jobs.double", 21, webhooks=webhooks)
    [claim] = store.claim("dead", keys.QUEUES, 64, "n")
    client.zadd("rq:wip:digitq", {f"{abandoned.id}:{claim.execution}": store.time() - 1})
    with serving(store) as worker:
        worker.recovery.recover_leases()
    assert abandoned.get_status().value == "failed" and called == []
    assert caplog.text.count("webhooks of an RQ job are not called") == 5 and "hunter2" not in caplog.text


def test_a_callback_off_the_list_is_none_whatever_asks_for_it(store: Store, client: redis.Redis) -> None:
    never = Callback("tests.jobs.never")
    made = rq_queue(client).enqueue("tests.jobs.double", 21, on_success=never, on_failure=never, on_stopped=never)
    with serving(store) as worker:
        job = worker.job_class.fetch(made.id, connection=client, serializer="json")
    assert (job.success_callback, job.failure_callback, job.stopped_callback) == (None, None, None)


@pytest.mark.parametrize("function", [keys.JOB_FUNCTION, keys.OTHER_NAMES[keys.JOB_FUNCTION]])
def test_a_plain_rq_client_is_answered(function: str, store: Store, client: redis.Redis) -> None:
    client.set(keys.image("my-picture"), b"7", ex=60)
    job = rq_queue(client).enqueue(function, "my-picture", job_id="my-picture")
    theirs = store.submit(b"7").id
    burst(store)
    assert job.return_value()["digit"] == 7
    picture = store.fetch("my-picture")
    assert (picture.digit, (picture.batch or {})["size"]) == (7, 2)
    assert store.fetch(theirs).digit == 7


def test_a_plain_rq_client_may_name_the_picture_otherwise_than_the_job(store: Store, client: redis.Redis) -> None:
    client.set(keys.image("my-picture"), b"7", ex=60)
    job = rq_queue(client).enqueue(keys.JOB_FUNCTION, "my-picture")
    burst(store)
    assert job.return_value()["digit"] == 7
    assert store.fetch(job.id).digit == 7


def test_plain_rq_jobs_share_a_batch(store: Store, client: redis.Redis) -> None:
    client.set(keys.image("p"), b"7", ex=60)
    jobs = [rq_queue(client).enqueue(keys.JOB_FUNCTION, "p") for _ in range(5)]
    burst(store)
    assert {(store.fetch(job.id).batch or {})["size"] for job in jobs} == {5}


def test_an_allowed_function_runs_on_rqs_own_path(store: Store, client: redis.Redis) -> None:
    ours = [store.submit(b"7").id for _ in range(2)]
    theirs = rq_queue(client).enqueue("tests.jobs.double", 21)
    ours.append(store.submit(b"7").id)
    burst(store)
    assert theirs.return_value() == 42
    assert [store.fetch(id).state for id in ours] == [State.SUCCEEDED] * 3


@pytest.mark.parametrize("image", [b"7", b"undecodable"])
def test_a_job_made_dependent_on_a_claimed_picture_is_enqueued_after_it(
    image: bytes, store: Store, client: redis.Redis
) -> None:
    client.set(keys.image("p"), image, ex=60)
    job = rq_queue(client).enqueue(keys.JOB_FUNCTION, "p")
    with serving(store) as worker:
        claims = worker.claimer.claim_batch()
        later = rq_queue(client).enqueue("tests.jobs.double", 21, depends_on=Dependency(job, allow_failure=True))
        assert later.get_status().value == "deferred"
        worker.run(claims)
        assert rq_queue(client).get_job_ids() == [later.id]


def test_a_function_off_the_list_is_refused_and_not_run(
    store: Store, client: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    job = rq_queue(client).enqueue("os.mkdir", "never", retry=Retry(max=3))
    burst(store)
    job.refresh()
    assert job.get_status().value == "failed"
    assert "os.mkdir is not on this worker's list" in (job.latest_result().exc_string or "")
    assert rq_queue(client).failed_job_registry.get_job_ids() == [job.id]
    assert not Path("never").exists()


def test_a_refused_job_that_wants_no_memory_of_its_failure_has_none(
    store: Store, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    job = rq_queue(client).enqueue("os.mkdir", "never", failure_ttl=0)
    burst(store)
    assert not client.exists(f"rq:job:{job.id}")
    assert "unexpected" not in caplog.text


def test_a_callback_off_the_list_is_refused_and_not_run(store: Store, client: redis.Redis) -> None:
    job = rq_queue(client).enqueue("tests.jobs.double", 21, on_success=Callback("tests.jobs.never"))
    burst(store)
    job.refresh()
    assert (job.get_status().value, client.get("test:never")) == ("failed", None)
    assert "tests.jobs.never is not on this worker's list" in (job.latest_result().exc_string or "")


def test_a_pickled_job_is_refused_and_not_run(store: Store, client: redis.Redis) -> None:
    job = RQQueue("digitq", connection=client).enqueue("tests.jobs.double", 21)
    burst(store)
    assert rq_queue(client).failed_job_registry.get_job_ids() == [job.id]
    failed = Job.fetch(job.id, connection=client, serializer="json")
    assert failed.return_value() is None
    assert "The job is not JSON" in (failed.latest_result().exc_string or "")


def test_a_lie_in_the_description_does_not_get_a_function_run(
    store: Store, client: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    job = rq_queue(client).enqueue("os.mkdir", "never", description=f"{keys.JOB_FUNCTION}('x')")
    burst(store)
    job.refresh()
    assert job.get_status().value == "failed" and not Path("never").exists()


def test_only_a_plain_call_of_our_function_counts_as_a_picture() -> None:
    def claim(data: bytes) -> object:
        return type("C", (), {"data": data})()

    assert image_id(claim(b'["digitq.tasks.classify",null,["x"],{}]')) == "x"  # type: ignore[arg-type]
    for other in (b'["os.mkdir",null,["x"],{}]', b'["digitq.tasks.classify",null,[],{}]', b"\x80\x05", b"[]", b"7",
                  b'["digitq.tasks.classify",null,["x"],{"a":1}]', b'["digitq.tasks.classify",null,7,{}]',
                  b'["digitq.tasks.classify",null,[7],{}]',
                  b'["digitq.tasks.classify",null,["x"],{"read":"words"}]',
                  b'["digitq.tasks.classify",null,["x"],["read"]]'):  # fmt: skip
        assert image_id(claim(other)) is None  # type: ignore[arg-type]


def test_what_a_model_of_anybodys_says_is_json_whatever_numbers_it_says_it_with() -> None:
    found = {"digit": np.int64(7), "confidence": np.float64(0.5), "probabilities": [np.float32(0.25), float("nan")]}
    assert json.loads(as_json(found)) == {"digit": 7, "confidence": 0.5, "probabilities": [0.25, None]}


def test_a_recovery_that_stood_still_does_not_requeue_a_picture_that_has_ended_since(
    client: redis.Redis, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = store.submit(b"7").id
    [claim] = store.claim("dead", keys.QUEUES, 64, "n")
    client.zadd("rq:wip:digitq", {f"{id}:{claim.execution}": store.time() - 1})
    retry, ends = Job.retry, []

    def late(job: Job, *args: Any) -> None:
        monkeypatch.undo()
        client.delete(keys.RECOVERY)  # the turn has expired
        burst(store)
        ends.append(store.fetch(id))
        retry(job, *args)

    monkeypatch.setattr(Job, "retry", late)
    with serving(store) as worker:
        worker.recovery.run_if_due(burst=True)
    assert ends[0].state is State.SUCCEEDED
    assert store.fetch(id) == ends[0]


def test_a_recovery_whose_turn_another_worker_has_writes_nothing(client: redis.Redis, store: Store) -> None:
    id = store.submit(b"7").id
    [claim] = store.claim("dead", keys.QUEUES, 64, "n")
    client.zadd("rq:wip:digitq", {f"{id}:{claim.execution}": store.time() - 1})
    assert store.recovery_turn("another")
    with serving(store) as worker:
        worker.recovery.recover_leases()
        assert store.fetch(id).state is State.RUNNING
        store.end_recovery_turn("another")
        worker.recovery.recover_leases()
        assert store.fetch(id).state is State.QUEUED
