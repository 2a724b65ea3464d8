"""The worker in this process, with a stand-in for the model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from shared.store import Store
from tests import fakes
from worker.queue.batch_worker import BatchWorker

ALLOWED = ("tests.jobs.double", "tests.jobs.explode", "tests.jobs.on_success", "tests.jobs.on_failure")


@contextmanager
def serving(store: Store) -> Iterator[BatchWorker]:
    worker = BatchWorker(store, fakes.classify, fakes.read_numbers, card={"version": "fake-1"}, allowed=ALLOWED)
    yield worker
    worker.wakeup.close()


def burst(store: Store) -> None:
    with serving(store) as worker:
        worker.work(burst=True)
