"""Jobs on RQ's own path: what may run, for how long, and who records the end."""

from __future__ import annotations

import time
from unittest.mock import Mock

import pytest
from rq.job import Job

from tests.unit.runners.claims import claim
from worker.queue.foreign_jobs import ForeignJobs
from worker.queue.heartbeat import GRACE_SECONDS, Heartbeat
from worker.queue.jobs import ForbiddenJob
from worker.queue.oom_retry import Fenced
from worker.queue.rq_compat import DEFAULT_TIMEOUT


def job(function: str = "tests.jobs.double", timeout: int | None = None) -> Job:
    return Job.create(function, args=[1], connection=Mock(), serializer="json", timeout=timeout)


def test_a_job_is_performed_only_if_its_function_is_allowed(store: Mock, rq: Mock, heartbeat: Heartbeat) -> None:
    foreign_jobs = ForeignJobs(rq, store, heartbeat, {"tests.jobs.double"})
    for function in ("tests.jobs.double", "os.mkdir"):
        rq.load.return_value = running = (job(function), Mock(), Mock())
        foreign_jobs.run(claim("a"))
    assert rq.perform.call_count == 1
    refused, error = rq.fail.call_args.args
    assert (refused, type(error), rq.fail.call_args.kwargs) == (running, ForbiddenJob, {"refused": True})


@pytest.mark.parametrize(("timeout", "seconds"), [(7, 7), (None, DEFAULT_TIMEOUT), (-1, float("inf"))])
def test_a_job_may_take_as_long_as_it_says(
    timeout: int | None, seconds: float, store: Mock, rq: Mock, heartbeat: Heartbeat
) -> None:
    rq.load.return_value = (job(timeout=timeout), Mock(), Mock())
    ForeignJobs(rq, store, heartbeat, {"tests.jobs.double"}).run(claim("a"))
    assert heartbeat._deadline - time.monotonic() - GRACE_SECONDS == pytest.approx(seconds, abs=5)


def test_an_end_is_recorded_only_where_rq_does_not_retry(store: Mock, rq: Mock, heartbeat: Heartbeat) -> None:
    foreign_jobs = ForeignJobs(rq, store, heartbeat, ())
    for failed in (False, True):
        rq.fail.return_value = failed
        foreign_jobs.fail(claim("a"), RuntimeError("boom"))
    [call] = store.end_alone.call_args_list
    assert call.args[:3] == ("a", 1, "failed") and b"internal_error" in call.args[3]
    assert rq.fail.call_args.kwargs == {"refused": False}


def test_a_failure_without_a_lease_is_nobodys(store: Mock, rq: Mock, heartbeat: Heartbeat) -> None:
    foreign_jobs = ForeignJobs(rq, store, heartbeat, ())
    store.renew.return_value = 0
    foreign_jobs.fail(claim("a"), RuntimeError("boom"))
    assert not rq.fail.called  # no callback of the job is run
    store.renew.return_value, rq.fail.side_effect = 1, Fenced
    foreign_jobs.fail(claim("a"), RuntimeError("boom"))
    assert not store.end_alone.called
