"""The parts of the worker, each alone: no server, and a stand-in for each collaborator."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any
from unittest.mock import Mock, create_autospec

import pytest
from rq.job import Job

from shared.batches import Batches
from shared.claims import Claim
from shared.settings import Settings
from shared.store import Store
from tests import fakes
from worker.inference.classify import Classified, Pictures
from worker.queue.claimer import CYCLE, Claimer
from worker.queue.foreign_jobs import ForeignJobs
from worker.queue.heartbeat import GRACE_SECONDS, Heartbeat
from worker.queue.jobs import ForbiddenJob, by_kind
from worker.queue.picture_runner import BatchClassifier, PictureRunner
from worker.queue.recovery import Recovery
from worker.queue.rq_compat import RqWorker

QUEUES = ["high", "normal", "low"]


def claim(id: str, image: bytes = b"7", **fields: Any) -> Claim:
    call = f'["digitq.tasks.classify",null,["{id}"],{{}}]'.encode()
    return replace(Claim(id, "e", "normal", True, call, image, 1, "30", "", ""), **fields)


@pytest.fixture
def store() -> Mock:
    store: Mock = create_autospec(Store, instance=True)
    store.settings = Settings()
    store.finish.return_value = [], []
    store.image.return_value = None
    return store


@pytest.fixture
def rq() -> Mock:
    rq: Mock = create_autospec(RqWorker, instance=True)
    rq.name, rq.maintenance_due = "w", False
    return rq


@pytest.fixture
def heartbeat(store: Mock) -> Heartbeat:
    return Heartbeat(store, "w", "", lambda: None)


def classifier(
    heartbeat: Heartbeat, classify: Callable[[Pictures], Classified] = fakes.classify, stopping: bool = False
) -> BatchClassifier:
    return BatchClassifier(classify, heartbeat, lambda: stopping)


# ---------------------------------------------------------------------- pictures


def pictures(store: Mock, heartbeat: Heartbeat, **options: Any) -> tuple[PictureRunner, Mock]:
    foreign_jobs = create_autospec(ForeignJobs, instance=True)
    return PictureRunner(store, "w", classifier(heartbeat, **options), foreign_jobs, "m", "p"), foreign_jobs


def test_a_batch_is_stored_with_its_results_and_its_errors(store: Mock, heartbeat: Heartbeat) -> None:
    runner, foreign_jobs = pictures(store, heartbeat)
    claims = [claim("a", b"1"), claim("b", b"undecodable"), claim("c", b""), claim("d", b"bug")]
    assert runner.run(claims, time.perf_counter()) == []
    _, finishes, ran, _ = store.finish.call_args.args
    assert {one.claim.id: one.error[0] for one in finishes} == {"c": "expired", "a": "", "b": "undecodable_image"}
    assert (ran.model, ran.size) == ("m", 3)
    [(failed, error)] = [call.args for call in foreign_jobs.fail.call_args_list]
    assert (failed.id, str(error)) == ("d", "a bug in the classifier")


def test_pictures_that_were_not_classified_in_time_are_returned(store: Mock, heartbeat: Heartbeat) -> None:
    runner, _ = pictures(store, heartbeat, classify=lambda images: fakes.classify(images[:1]))
    rest = runner.run([claim("a"), claim("b"), claim("c")], time.perf_counter())
    assert [one.id for one in rest] == ["b", "c"]


def test_a_batch_that_fails_is_classified_one_by_one_until_the_worker_stops(heartbeat: Heartbeat) -> None:
    images = [b"1", b"poison-batch", b"3"]
    results = classifier(heartbeat)(images, 5).results
    assert [type(one).__name__ for one in results] == ["Outcome", "RuntimeError", "Outcome"]
    assert len(classifier(heartbeat, stopping=True)(images, 5).results) == 1


# ---------------------------------------------------------------------- claims


def test_claims_are_sorted_by_the_way_in_which_they_run() -> None:
    damaged, other = claim("d", error="wrong type"), claim("o", data=b'["f",null,["o"],{}]')
    callback = claim("c", batchable=False)
    chunk = claim("x", batchable=False, chunk=True, data=b'["digitq.tasks.classify_chunk",null,["x"],{}]')
    foreign_chunk = replace(chunk, id="y")
    page, unknown = (
        claim(id, data=f'["digitq.tasks.classify",null,["{id}"],{{"read":"{read}"}}]'.encode())
        for id, read in (("n", "numbers"), ("u", "words"))
    )
    kinds = by_kind([damaged, other, callback, chunk, foreign_chunk, claim("p"), page, unknown])
    assert [[one.id for one in kind] for kind in kinds] == [["d"], ["p"], ["n"], ["x"], ["o", "c", "y", "u"]]


def test_each_queue_comes_first_in_some_of_the_claims(store: Mock) -> None:
    store.claim.return_value = []
    claimer = Claimer(store, "w", QUEUES)
    for _ in range(CYCLE):
        claimer.claim_batch()
    first = [call.args[1][0] for call in store.claim.call_args_list]
    assert [first.count(queue) for queue in QUEUES] == [CYCLE - 2, 1, 1]


@pytest.mark.parametrize(("later", "released"), [([claim("d")], False), ([claim("d", attempt=2)], True)])
def test_a_shared_batch_waits_for_more_and_returns_retries(store: Mock, later: Sequence[Claim], released: bool) -> None:
    store.settings = replace(store.settings, batch_max_wait_ms=1)
    store.claim.side_effect = [[claim("a"), claim("b")], [claim("c")], [*later]]
    claimer = Claimer(store, "w", QUEUES)
    claimer.claim_batch()
    assert [one.id for one in claimer.claim_batch()] == (["c"] if released else ["c", "d"])
    assert store.release.called == released


# ---------------------------------------------------------------------- foreign jobs, recovery, heartbeat


def test_a_job_is_performed_only_if_its_function_is_allowed(store: Mock, rq: Mock, heartbeat: Heartbeat) -> None:
    foreign_jobs = ForeignJobs(rq, store, heartbeat, {"tests.jobs.double"})
    for function in ("tests.jobs.double", "os.mkdir"):
        job = Job.create(function, args=[1], connection=Mock(), serializer="json")
        rq.load.return_value = running = (job, Mock(), Mock())
        foreign_jobs.run(claim("a"))
    assert rq.perform.call_count == 1
    refused, error = rq.fail.call_args.args
    assert (refused, type(error), rq.fail.call_args.kwargs) == (running, ForbiddenJob, {"refused": True})


def test_an_end_is_recorded_only_where_rq_does_not_retry(store: Mock, rq: Mock, heartbeat: Heartbeat) -> None:
    foreign_jobs = ForeignJobs(rq, store, heartbeat, ())
    for failed in (False, True):
        rq.fail.return_value = failed
        foreign_jobs.fail(claim("a"), RuntimeError("boom"))
    [call] = store.end_alone.call_args_list
    assert call.args[:2] == ("a", "failed") and b"internal_error" in call.args[2]


def test_one_worker_recovers_at_a_time_and_suspension_is_for_all(store: Mock, rq: Mock) -> None:
    recovery = Recovery(rq, store, create_autospec(Batches, instance=True), QUEUES)
    store.recovery_turn.return_value = False
    recovery.run_if_due(burst=False)
    recovery.run_if_due(burst=False)  # not due yet
    assert rq.wait_while_suspended.call_count == store.recovery_turn.call_count == 1
    assert not rq.fail_abandoned.called and not store.end_recovery_turn.called


def test_held_claims_have_a_time_limit_that_progress_restarts(heartbeat: Heartbeat) -> None:
    outer, inner, start = claim("outer"), claim("inner"), time.monotonic()
    with heartbeat.holding([outer], 100):
        with heartbeat.holding([inner], 1):
            assert heartbeat.claims == (outer, inner)
        heartbeat.extend(1000)
        assert start + 1000 <= heartbeat._deadline - GRACE_SECONDS < start + 1010
    assert (heartbeat.claims, heartbeat._deadline) == ((), float("inf"))
