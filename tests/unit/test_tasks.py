"""The functions that a stock worker of RQ calls."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import redis
from rq import Queue as RQQueue
from rq import Retry, SimpleWorker
from rq.job import Job

from shared import keys
from shared.errors import Expired
from shared.prediction import State
from shared.store import Store
from tests import fakes
from worker import tasks
from worker.inference.classify import Classified, Pictures


class Serving:
    model, preprocessing = SimpleNamespace(version="fake-1"), "p"

    def __call__(self, images: Pictures) -> Classified:
        return fakes.classify(list(images))


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "classifier", Serving)
    monkeypatch.setattr(tasks, "NumbersClassifier", lambda serving: fakes.read_numbers)


def ran(client: redis.Redis, image: bytes | None, *, times: int = 1, **options: object) -> Job:
    """Run a picture `p` through a stock worker."""
    queue = RQQueue("digitq", connection=client, serializer="json")
    if image:
        client.set(keys.image("p"), image, ex=600)
    job = queue.enqueue(keys.JOB_FUNCTION, "p", job_id="p", **options)
    for _ in range(times):
        SimpleWorker([queue], connection=client, serializer="json").work(
            burst=True, max_jobs=1, logging_level="CRITICAL"
        )
    return job


def test_a_picture_is_stored_as_our_own_worker_stores_it(store: Store, client: redis.Redis) -> None:
    job = ran(client, b"7")
    found = store.fetch("p")
    assert (found.digit, found.attempt, found.model) == (7, 1, "fake-1")
    assert job.return_value()["digit"] == 7


def test_an_error_of_the_picture_ends_it_and_any_other_is_retried(store: Store, client: redis.Redis) -> None:
    job = ran(client, b"undecodable", retry=Retry(max=2))
    assert (store.fetch("p").state, job.get_status().value) == (State.FAILED, "failed")
    client.flushall()
    job = ran(client, b"bug", retry=Retry(max=1))
    assert (store.fetch("p").state, job.get_status().value) == (State.QUEUED, "queued")
    assert not client.hexists(keys.job("p"), "digitq_found")  # it has not ended
    SimpleWorker(["digitq"], connection=client, serializer="json").work(burst=True, logging_level="CRITICAL")
    found = store.fetch("p")
    assert ((found.error or {})["code"], found.attempt) == ("internal_error", 2)


def test_a_picture_without_bytes_has_expired(store: Store, client: redis.Redis) -> None:
    ran(client, None)
    assert store.fetch("p").state is State.EXPIRED


@pytest.mark.parametrize(("options", "numbers"), [({}, None), ({"read": "digit"}, None), ({"read": "numbers"}, 2)])
def test_a_picture_is_read_as_the_job_says(
    options: dict[str, str], numbers: int | None, store: Store, client: redis.Redis
) -> None:
    ran(client, b"12 3" if numbers else b"7", **options)
    found = store.fetch("p").numbers
    assert (None if found is None else len(found)) == numbers


def test_an_unknown_way_of_reading_is_an_error_of_the_picture() -> None:
    serving: Any = Serving()
    [error] = tasks._classified(serving, b"7", "words").results
    assert getattr(error, "code", "") == "unknown_read"
    [error] = tasks._classified(serving, None, "digit").results
    assert isinstance(error, Expired)


@pytest.mark.parametrize("image", [b"7", b"undecodable"], ids=["a result", "a failure"])
def test_a_job_is_kept_no_longer_than_our_results(
    image: bytes, store: Store, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIGITQ_RESULT_TTL_SECONDS", "100")  # RQ's defaults: 500 s, and a year
    left = client.ttl(ran(client, image).key)
    assert isinstance(left, int) and 90 < left <= 200


def test_the_functions_run_inside_a_worker_alone() -> None:
    with pytest.raises(RuntimeError, match="inside an RQ worker"):
        tasks.classify("p")
