"""Metrics of web process and worker, and that dashboard and alerts only use existing ones."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator

import pytest
import redis
import yaml
from prometheus_client import CollectorRegistry, generate_latest

from shared import ROOT
from shared.batches import Batches
from shared.chunks import Chunk, Item, packed
from shared.runtime.metrics import Histogram
from shared.settings import Settings
from shared.store import Store
from tests import fakes
from tests.pictures import seven
from tests.samples import Samples, samples
from tests.served import WebClient, site
from worker.queue.batch_worker import BatchWorker
from worker.telemetry import metrics


@pytest.fixture
def web(store: Store) -> Iterator[WebClient]:
    with site(store) as web:
        yield web


def of_worker() -> Samples:
    return samples(generate_latest(metrics.registry).decode())


def changes(before: Samples, after: Samples, name: str, **labels: str) -> float:
    key = (name, tuple(sorted(labels.items())))
    return after.get(key, 0.0) - before.get(key, 0.0)


def test_a_worker_counts_every_stage_of_every_picture(store: Store) -> None:
    before = of_worker()
    for image in (b"7", b"3", b"undecodable"):
        store.submit(image)
    worker = BatchWorker(store, fakes.classify)
    worker.run(worker.claimer.claim_batch())
    worker.wakeup.close()
    after = of_worker()
    for stage in ("queue", "batch", "preprocess", "inference", "store", "total"):
        assert changes(before, after, "digitq_picture_duration_seconds_count", stage=stage) == 3
    parts = [changes(before, after, "digitq_picture_duration_seconds_sum", stage=stage) for stage in ("queue", "store")]
    assert 0 < sum(parts) <= changes(before, after, "digitq_picture_duration_seconds_sum", stage="total")
    assert changes(before, after, "digitq_batch_size_bucket", le="4.0") == 1
    assert changes(before, after, "digitq_batch_size_bucket", le="2.0") == 0
    assert changes(before, after, "digitq_prediction_confidence_bucket", le="0.9") == 0
    assert changes(before, after, "digitq_prediction_confidence_bucket", le="0.95") == 2
    assert changes(before, after, "digitq_pictures_completed_total", outcome="succeeded") == 2
    assert changes(before, after, "digitq_pictures_completed_total", outcome="failed") == 1


def test_a_lease_that_ran_out_a_retry_and_a_given_up_picture_are_counted(
    store: Store, client: redis.Redis, settings: Settings
) -> None:
    before = of_worker()
    id = store.submit(b"7").id
    worker = BatchWorker(store, fakes.classify)
    for _ in range(settings.max_attempts):
        [claim] = worker.claimer.claim_batch()
        client.zadd(f"rq:wip:{claim.queue}", {f"{id}:{claim.execution}": time.time() - 1})  # its worker died
        worker.recovery.recover_leases()
    worker.wakeup.close()
    after = of_worker()
    assert changes(before, after, "digitq_leases_expired_total") == settings.max_attempts
    assert changes(before, after, "digitq_retries_total") == settings.max_attempts - 1
    assert changes(before, after, "digitq_quarantined_total", reason="poison") == 1


def test_a_web_process_counts_requests_by_route_and_refusals_by_reason(store: Store, web: WebClient) -> None:
    before = samples(web.get("/metrics").text)
    id = web.post("/v1/predictions", data=seven(), content_type="image/png").json["id"]  # type: ignore[index]
    web.get(f"/v1/predictions/{id}")
    web.get(f"/v1/predictions/{id}?wait=0.01")
    web.post("/v1/predictions", data=b"no picture", content_type="image/png")
    web.open("/nowhere", method="BREW")
    text = web.get("/metrics").text
    after, route = samples(text), "/v1/predictions/<id>"
    assert changes(before, after, "digitq_http_requests_total", method="GET", route=route, status="200") == 2
    name = "digitq_http_request_duration_seconds_count"
    assert [changes(before, after, name, method="GET", route=route, waits=one) for one in ("yes", "no")] == [1, 1]
    assert changes(before, after, "digitq_http_requests_total", method="other", route="none", status="404") == 1
    assert changes(before, after, "digitq_rejected_total", reason="unsupported_type") == 1
    assert changes(before, after, "digitq_pictures_submitted_total", source="picture") == 1
    assert id not in text


def test_the_queue_and_the_fleet_are_told_by_every_web_process(store: Store, web: WebClient) -> None:
    for _ in range(3):
        store.submit(seven())
    Batches(store).submit([Chunk(200, b"x")])
    store.claim("w", ["digitq"], 1, "n")
    found = samples(web.get("/metrics").text)
    assert found["digitq_queue_depth", (("queue", "digitq"),)] == 2
    assert found["digitq_jobs_in_flight", ()] == 1
    assert found["digitq_backlog_jobs", ()] == 4  # what is claimed has not ended
    assert found["digitq_backlog_pictures", ()] == 203
    assert found["digitq_oldest_job_age_seconds", ()] > 0
    assert found["digitq_redis_memory_used_bytes", ()] > 100_000
    assert [value for (name, _), value in found.items() if name == "digitq_workers"] == [0, 0]  # and not nothing
    store.renew("w", [])
    store.client.hset("rq:worker:w", mapping={"state": "busy", "device": "gpu"})
    found = samples(web.get("/metrics").text)
    assert found["digitq_workers", (("device", "gpu"), ("state", "busy"))] == 1


def test_the_pictures_of_a_batch_are_counted_as_pictures_and_its_chunks_as_jobs(store: Store) -> None:
    before = of_worker()
    Batches(store).submit(list(packed(Item("", image) for image in (b"7", b"3", b"7"))))
    worker = BatchWorker(store, fakes.classify)
    worker.run(worker.claimer.claim_batch())
    worker.wakeup.close()
    after = of_worker()
    assert changes(before, after, "digitq_pictures_completed_total", outcome="succeeded") == 3
    for stage in ("queue", "total"):
        assert changes(before, after, "digitq_chunk_duration_seconds_count", stage=stage) == 1
        assert changes(before, after, "digitq_picture_duration_seconds_count", stage=stage) == 0
    for stage in ("preprocess", "inference"):
        assert changes(before, after, "digitq_picture_duration_seconds_count", stage=stage) == 3


def test_no_name_says_jobs_and_counts_pictures_and_no_series_says_when_it_was_created(web: WebClient) -> None:
    web.get("/v1/status")
    exposed = web.get("/metrics").text + generate_latest(metrics.registry).decode()
    helps = dict(re.findall(r"^# HELP (\w+) (.+)$", exposed, re.M))
    assert [name for name, text in helps.items() if "_job" in name and "picture" in text.lower()] == []
    assert [name for name, text in helps.items() if "_picture" in name and "job" in text.lower()] == []
    assert "_created" not in exposed


def test_dashboard_and_alerts_ask_for_nothing_that_is_not_there(web: WebClient) -> None:
    exposed = web.get("/metrics").text + generate_latest(metrics.registry).decode()
    types = dict(re.findall(r"^# TYPE (\w+) (\w+)$", exposed, re.M))
    there = {name + end for name, kind in types.items() for end in ENDS.get(kind, ("",))}
    dashboard = json.loads((ROOT / "deploy/grafana/digitq.json").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    asked.append((ROOT / "deploy/prometheus/alerts.yml").read_text())
    names = {name for expression in asked for name in re.findall(r"\bdigitq_\w+", expression)}
    assert len(names) > 20 and names - there == set()


def test_each_alert_says_what_it_means_and_what_to_do() -> None:
    rules = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())["groups"][0]["rules"]
    for rule in rules:
        told = rule["annotations"]
        assert rule["labels"]["severity"] in ("critical", "warning") and len(told["summary"]) < 80
        assert len(re.findall(r"[.:;] ", told["description"])) >= 1 and len(told["description"]) > 100, rule["alert"]


def test_no_alert_counts_what_probes_ask() -> None:
    rules = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())["groups"][0]["rules"]
    for rule in rules:
        for labels in re.findall(r"digitq_http_requests_total(\{[^}]*\})?", rule["expr"]):
            assert 'route!~"/readyz|/healthz|/metrics"' in labels


def test_every_counter_is_on_the_dashboard(web: WebClient) -> None:
    web.get("/healthz")
    exposed = web.get("/metrics").text + generate_latest(metrics.registry).decode()
    dashboard = (ROOT / "deploy/grafana/digitq.json").read_text()
    counters = re.findall(r"^# TYPE (\w+) counter$", exposed, re.M)
    assert len(counters) >= 9 and [name for name in counters if name not in dashboard] == []


ENDS = {"histogram": ("_bucket", "_sum", "_count")}


def test_a_batch_of_values_costs_next_to_nothing_and_is_a_histogram_like_any_other() -> None:
    registry = CollectorRegistry()
    one = Histogram("x_seconds", "x", (1, 2), registry, "stage")
    one.observe([0.5, 1, 2.5], "a")
    one.observe([1.5], "a", 10)
    found = samples(generate_latest(registry).decode())
    assert [found["x_seconds_bucket", (("le", le), ("stage", "a"))] for le in ("1.0", "2.0", "+Inf")] == [2, 12, 13]
    assert found["x_seconds_count", (("stage", "a"),)] == 13 and found["x_seconds_sum", (("stage", "a"),)] == 19
