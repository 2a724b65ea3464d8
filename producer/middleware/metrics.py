"""Prometheus metrics of a web process: its requests, and the queue and the fleet as every process sees them."""

from __future__ import annotations

import re
import time
from collections import Counter as Tally
from collections.abc import Iterator
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from producer.middleware.request import Request
from shared import VERSION
from shared.errors import RedisUnavailable
from shared.load import Load
from shared.runtime.metrics import SECONDS
from shared.store import Store

registry = CollectorRegistry()
REQUESTS = Counter("digitq_http_requests", "Requests", ["method", "route", "status"], registry=registry)
#: `waits`: the client asked to wait for the result, so the time is not the server's.
LATENCY = Histogram(
    "digitq_http_request_duration_seconds", "Time until the answer began", ["method", "route", "waits"],
    buckets=SECONDS, registry=registry,
)  # fmt: skip
SUBMITTED = Counter("digitq_pictures_submitted", "Pictures that were accepted here", ["source"], registry=registry)
REJECTED = Counter("digitq_rejected", "Uploads that were refused, by the code of the problem", ["reason"],
                   registry=registry)  # fmt: skip
Gauge("digitq_build_info", "The version that runs", ["version"], registry=registry).labels(VERSION).set(1)

METHODS = {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"}
_WAIT = re.compile(r"\bwait\s*=", re.IGNORECASE)


def count(request: Request, status: int) -> None:
    """Count a request that is answered now."""
    method = request.method if request.method in METHODS else "other"
    waits = request.has("wait") or _WAIT.search(request.environ.get("HTTP_PREFER", ""))
    requests, latency = _series(method, request.route, status, "yes" if waits else "no")
    requests.inc()
    latency.observe(time.perf_counter() - request.began)


@cache
def _series(method: str, route: str, status: int, waits: str) -> tuple[Counter, Histogram]:
    """The counter and histogram with these labels: `labels` is slow, and there are few combinations."""
    return REQUESTS.labels(method, route, str(status)), LATENCY.labels(method, route, waits)


def exposition(fleet: CollectorRegistry) -> bytes:
    """Render the counters of this process and the load of the fleet, in two round trips."""
    return generate_latest(registry) + generate_latest(fleet)


def fleet_registry(store: Store) -> CollectorRegistry:
    """A registry of the queue and the workers, which reads Redis when it is scraped."""
    registry = CollectorRegistry()
    registry.register(Fleet(store))
    return registry


class Fleet(Collector):
    """Collects the queue and the workers when it is scraped. Every web process reports the same: take the maximum."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def describe(self) -> list[Metric]:
        """Return nothing, so that registration does not ask Redis."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The metric families; only `digitq_redis_up` while Redis does not answer."""
        up = "Whether Redis answers"
        try:
            load, memory = self._store.load(), self._store.memory()
        except RedisUnavailable:
            yield GaugeMetricFamily("digitq_redis_up", up, 0)
            return
        yield GaugeMetricFamily("digitq_redis_up", up, 1)
        yield GaugeMetricFamily("digitq_redis_memory_used_bytes", "Memory that Redis has used", memory.used)
        yield GaugeMetricFamily(
            "digitq_redis_memory_limit_bytes", "Memory that Redis may use; 0 for no limit", memory.limit
        )
        yield from _busy(load, self._store.settings.latency_goal_ms / 1000)


def _busy(load: Load, goal: float) -> Iterator[Metric]:
    depth = GaugeMetricFamily(
        "digitq_queue_depth", "Waiting jobs, single pictures and chunks of batches", labels=["queue"]
    )
    for queue, jobs in load.queues.items():
        depth.add_metric([queue], jobs)
    workers = GaugeMetricFamily("digitq_workers", "Workers that are alive", labels=["state", "device"])
    found = Tally({("idle", "cpu"): 0, ("busy", "cpu"): 0})  # so that no worker is a zero, not a missing sample
    found.update((worker.state, worker.device) for worker in load.workers)
    for labels, count in found.items():
        workers.add_metric(labels, count)
    yield from (depth, workers)
    numbers: dict[str, tuple[str, float | None]] = {
        "jobs_in_flight": ("Jobs that workers hold", load.running),
        "backlog_jobs": ("Queued and claimed jobs", sum(load.queues.values()) + load.running),
        "backlog_pictures": ("Pictures that wait or are being classified, those of batches included", load.backlog),
        "oldest_job_age_seconds": ("How long the first in the queues has waited", load.oldest),
        "backlog_eta_seconds": ("In how long what waits now will be done", load.eta),
        "workers_needed": ("Workers for the latency goal", load.needed(goal)),
        "arrivals_per_second": ("Pictures that are uploaded, over the last 10 to 15 s", load.arrivals),
        "completions_per_second": ("Pictures that end, over the last 10 to 15 s", load.completions),
        "capacity_per_second": ("Pictures that the live workers could end", load.capacity),
    }
    for name, (doc, value) in numbers.items():
        # An unknown value has no sample, but its family is declared.
        yield (
            GaugeMetricFamily(f"digitq_{name}", doc, value)
            if value is not None
            else Metric(f"digitq_{name}", doc, "gauge")
        )
