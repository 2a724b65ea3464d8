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
from worker.inference import golden
from worker.inference.classify import Classifier
from worker.inference.mlp import Mlp
from worker.inference.numbers_classifier import NumbersClassifier
from worker.queue.limits import limit_memory
from worker.telemetry import metrics

log = logging.getLogger("digitq.worker")


@cache
def model() -> Mlp:
    """Load this process's model, once. Raises ModelError."""
    settings = Settings.from_env()
    return Mlp.to_serve(settings.model_path, settings.device)


@cache
def classifier() -> Classifier:
    """Load, warm up and self-test this process's classifier, once. Raises ModelError."""
    settings = Settings.from_env()
    model().warm_up()
    golden.check(Classifier(model(), settings.max_pixels), settings.model_path)
    return Classifier(model(), settings.max_pixels, settings.preprocessing)


@cache
def numbers_classifier() -> NumbersClassifier:
    """Return the same for pictures that are read as numbers. Raises ModelError."""
    return NumbersClassifier(classifier())


def serve(settings: Settings, burst: bool = False) -> None:
    """Run one worker until it is told to stop. Raises ModelError before it claims a job."""
    from worker.queue.batch_worker import BatchWorker

    start = time.perf_counter()
    tracing.start("digitq-worker")
    store = Store(connect(settings.redis_url, timeout=5), settings)
    try:
        serving = classifier()
    except ModelError as error:
        log.critical("never claims a job: %s", error)
        with contextlib.suppress(RedisUnavailable):
            store.refuse(str(error))
        raise
    _wait_for(store)
    allowed = [name.strip() for name in settings.allowed_functions.split(",") if name.strip()]
    card = serving.model.card | {"preprocessing": serving.preprocessing}  # as configured, not as trained
    device = model().device
    if device == "cpu":  # the memory that a GPU's driver maps is not known beforehand
        limit_memory(settings.max_pixels)
    worker = BatchWorker(store, serving, numbers_classifier(), card=card, allowed=allowed, device=device)
    metrics.serve(settings, card, device)
    log.info("worker %s serves model %s after %.1f s", worker.name, serving.model.version, time.perf_counter() - start)
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
