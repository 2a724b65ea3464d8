"""Tests of the metrics of a worker, and of the fields that name a job in its logs."""

from __future__ import annotations

import errno
import logging
from dataclasses import replace

import pytest
from prometheus_client import generate_latest

from shared.errors import Expired, UndecodableImage
from shared.ids import new_id
from shared.settings import Settings
from tests import fakes
from tests.samples import samples
from tests.unit.runners.claims import claim
from worker.telemetry import metrics
from worker.telemetry.job_logs import job_fields
from worker.telemetry.metrics import BatchTimes, queue_seconds
from worker.telemetry.speed import Speed


def total(name: str, **labels: str) -> float:
    found = samples(generate_latest(metrics.registry).decode())
    return found.get((name, tuple(sorted(labels.items()))), 0.0)


SUBMITTED = claim("a", submitted_at="2026-01-31T12:00:00.000000Z", claimed_at="1769860802.5")


@pytest.mark.parametrize(
    ("one", "seconds"),
    [
        (SUBMITTED, 2.5),
        (replace(SUBMITTED, claimed_at="1769860799.0"), 0.0),
        (replace(SUBMITTED, submitted_at=""), 0.0),
        (replace(SUBMITTED, claimed_at=""), 0.0),
    ],
    ids=["as usual", "after a failover to a clock behind", "not from us", "not claimed by us"],
)
def test_the_time_in_the_queue_is_from_submission_to_claim(one: object, seconds: float) -> None:
    assert queue_seconds(one) == seconds  # type: ignore[arg-type]


def test_the_stages_of_a_picture_add_up_to_its_total() -> None:
    sums = {"queue": 2.5, "batch": 1.0, "store": 0.25, "total": 2.5 + 11.25}
    name = "digitq_picture_duration_seconds_sum"
    before = {stage: total(name, stage=stage) for stage in sums}
    metrics.stored([SUBMITTED], BatchTimes(100.0, 101.0, 111.0, 111.25, 4.0, 5.0))
    assert {stage: total(name, stage=stage) - before[stage] for stage in sums} == pytest.approx(sums)


def test_pictures_are_counted_by_how_they_ended() -> None:
    name = "digitq_pictures_completed_total"
    before = {outcome: total(name, outcome=outcome) for outcome in ("succeeded", "expired", "failed")}
    results = [fakes.outcome(7), Expired(), UndecodableImage("x"), RuntimeError("a bug")]
    metrics.classified(results, 1.0, 1.0)
    after = {outcome: total(name, outcome=outcome) - before[outcome] for outcome in before}
    assert after == {"succeeded": 1, "expired": 1, "failed": 2}


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The ports on which /metrics was to be served."""
    tried: list[int] = []
    monkeypatch.setattr(metrics, "start_http_server", lambda port, host, registry: tried.append(port))
    return tried


def test_without_a_port_no_metrics_are_served(tried: list[int]) -> None:
    metrics.serve(Settings(metrics_port=0))
    assert tried == []


def test_the_last_port_of_all_is_the_last_that_is_tried(tried: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    def in_use(port: int, host: str, registry: object) -> None:
        tried.append(port)
        raise OSError(errno.EADDRINUSE, "in use")

    monkeypatch.setattr(metrics, "start_http_server", in_use)
    metrics.serve(Settings(metrics_port=65534))
    assert tried == [65534, 65535]


def test_a_host_that_is_not_ours_is_told_once(
    tried: list[int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def elsewhere(port: int, host: str, registry: object) -> None:
        tried.append(port)
        raise OSError(errno.EADDRNOTAVAIL, "not ours")

    monkeypatch.setattr(metrics, "start_http_server", elsewhere)
    with caplog.at_level(logging.WARNING):
        metrics.serve(Settings(metrics_port=9100))
    assert tried == [9100]
    assert [record.getMessage() for record in caplog.records] == ["no /metrics on port 9100: [Errno 99] not ours"]


def test_a_worker_that_has_become_faster_says_so_soon() -> None:
    speed = Speed()
    for pictures in (1, 64) * 100:
        speed.add(pictures, 0.02 * pictures)
    for pictures in (1, 64) * 100:
        speed.add(pictures, 0.01 * pictures)
    assert speed.at(64) == pytest.approx(100, rel=0.05)


@pytest.mark.parametrize(
    ("small", "large"), [(0.5, 0.1), (0.001, 6.4)], ids=["large ones were quicker", "small ones cost nothing"]
)
def test_no_batch_takes_less_time_than_nothing_nor_costs_less_for_being_small(small: float, large: float) -> None:
    speed = Speed()
    speed.add(1, small)
    speed.add(64, large)
    alone, full = speed.at(1) or 0, speed.at(64) or 0
    assert 0 < alone <= full * 1.001 and full <= 64 * alone * 1.001


def test_a_chunk_is_named_by_its_batch() -> None:
    id = new_id()
    assert job_fields(id) == {"prediction_id": id}
    assert job_fields(f"{id}-3") == {"batch_id": id, "job_id": f"{id}-3"}
