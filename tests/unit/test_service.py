"""The start of a worker: what it checks, what it waits for, and what it hands to BatchWorker."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import redis

from shared import keys
from shared.errors import ModelError, RedisUnavailable
from shared.store import Store
from worker import service
from worker.queue import batch_worker


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """Stand-ins for the model, the worker and the memory limit, in place for a start of the service."""
    model = SimpleNamespace(version="m", card={"version": "m", "preprocessing": "as trained"}, device="cpu")
    served = Mock(device="cpu", refused="")
    served.classifier.return_value = SimpleNamespace(model=model, preprocessing="as configured")
    made = SimpleNamespace(worker=Mock(), limit=Mock(), waited=Mock(), served=served)
    monkeypatch.setattr(service, "served", lambda: served)
    monkeypatch.setattr(service, "NumbersClassifier", Mock())
    monkeypatch.setattr(service, "limit_memory", made.limit)
    monkeypatch.setattr(service.garbage_collector, "tune", lambda: None)
    monkeypatch.setattr(service, "_wait_for", made.waited)
    monkeypatch.setattr(batch_worker, "BatchWorker", made.worker)
    yield made


def test_a_worker_says_with_which_preprocessing_it_serves(store: Store, started: SimpleNamespace) -> None:
    service.serve(store.settings)
    assert started.worker.call_args.kwargs["card"] == {"version": "m", "preprocessing": "as configured"}
    assert started.worker.return_value.work.called and started.waited.called


def test_the_list_of_functions_may_be_written_with_spaces(store: Store, started: SimpleNamespace) -> None:
    service.serve(replace(store.settings, allowed_functions=" tests.jobs.double , tests.jobs.explode,"))
    assert started.worker.call_args.kwargs["allowed"] == ["tests.jobs.double", "tests.jobs.explode"]


@pytest.mark.parametrize(("device", "limited"), [("cpu", True), ("gpu", False)])
def test_memory_is_limited_where_it_is_known(
    device: str, limited: bool, store: Store, started: SimpleNamespace
) -> None:
    started.served.device = device
    service.serve(store.settings)
    assert started.limit.called == limited


def test_a_worker_whose_model_is_refused_says_why_and_does_not_start(
    store: Store, client: redis.Redis, started: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "served", Mock(side_effect=ModelError("it reads a 7 as a 1")))
    with pytest.raises(ModelError):
        service.serve(store.settings)
    assert not started.worker.called
    assert client.get(keys.REFUSED) == b"it reads a 7 as a 1"


@pytest.mark.parametrize(
    ("cause", "signs"), [(redis.ConnectionError(), 3), (redis.TimeoutError(), 1)], ids=["it refuses", "it is silent"]
)
def test_a_worker_waits_for_redis_and_is_healthy_unless_it_is_silent(
    cause: Exception, signs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    error, alive, store = RedisUnavailable("away"), Mock(), Mock()
    error.__cause__ = cause
    store.time.side_effect = [error, error, 1.0]
    monkeypatch.setattr(service, "alive", alive)
    monkeypatch.setattr(service.time, "sleep", lambda seconds: None)
    service._wait_for(store)
    assert (alive.call_count, store.time.call_count) == (signs, 3)
