"""Starts a worker process: loads the model, waits for Redis, and runs the worker."""

from __future__ import annotations

import contextlib
import logging
import time
from functools import cache

from shared.connections.connection import is_unanswered
from shared.errors import ModelError, RedisUnavailable
from shared.runtime import garbage_collector, tracing
from shared.runtime.health import alive
from shared.settings import Settings
from shared.store import Store, connect
from worker.inference.classify import Classifier
from worker.inference.numbers_classifier import NumbersClassifier
from worker.inference.served_model import ServedModel
from worker.queue.limits import limit_memory
from worker.queue.serving import Serving
from worker.telemetry import metrics

log = logging.getLogger("digitq.worker")


@cache
def served() -> ServedModel:
    """Load, warm up and self-test this process's model, once. Raises ModelError."""
    return ServedModel(Settings.from_env())


def classifier() -> Classifier:
    """Return this process's classifier for the next batch. Raises ModelError if its first model cannot be served."""
    return served().classifier()


def in_service(before: Serving | None = None) -> Serving:
    """Return the model to serve the next batch with: `before` itself, unless there is another. Raises ModelError."""
    found, refused = classifier(), served().refused
    if before and found is before.classify and refused == before.refused:
        return before
    card = found.model.card | {"preprocessing": found.preprocessing}  # as configured, not as trained
    return Serving(found, NumbersClassifier(found), card, refused)


def serve(settings: Settings, burst: bool = False) -> None:
    """Run one worker until it is told to stop. Raises ModelError before it claims a job."""
    from worker.queue.batch_worker import BatchWorker

    start = time.perf_counter()
    tracing.start("digitq-worker")
    store = Store(connect(settings.redis_url, timeout=5), settings)
    try:
        device = served().device
    except ModelError as error:
        log.critical("never claims a job: %s", error)
        with contextlib.suppress(RedisUnavailable):
            store.refuse(str(error))
        raise
    _wait_for(store)
    allowed = [name.strip() for name in settings.allowed_functions.split(",") if name.strip()]
    if device == "cpu":  # the memory that a GPU's driver maps is not known beforehand
        limit_memory(settings.max_pixels)
    first = in_service()
    worker = BatchWorker(
        store, first.classify, first.read_numbers, card=first.card, allowed=allowed, device=device, renewed=in_service
    )
    metrics.serve(settings)
    log.info("worker %s serves model %s after %.1f s", worker.name, first.version, time.perf_counter() - start)
    garbage_collector.tune()
    worker.work(burst=burst)


def _wait_for(store: Store) -> None:
    """Blocks until Redis answers, and marks the process as alive meanwhile unless Redis is unreachable."""
    alive()
    while True:
        try:
            store.time()
            return
        except RedisUnavailable as error:
            if not is_unanswered(error):
                alive()
            time.sleep(0.5)
