"""A no-op classification for both workers, to measure the queue alone."""

from __future__ import annotations

from collections.abc import Sized
from typing import Any

from rq import get_current_job

from shared.prediction import Outcome
from shared.settings import Settings
from shared.store import Store, connect
from worker.inference.classify import Classified
from worker.queue.batch_worker import BatchWorker

ANSWER = Outcome(7, 0.91, tuple(0.91 if i == 7 else 0.01 for i in range(10)), "accept", (), bytes(784))


def batch(images: Sized) -> Classified:
    return Classified([ANSWER] * len(images), 0.0, 0.0)


def classify(id: str) -> dict[str, Any]:
    """The job function of the stock worker: reads the picture and returns a digit."""
    job = get_current_job()
    assert job is not None
    job.connection.get(f"digitq:image:{id}")
    return ANSWER.summary()


if __name__ == "__main__":  # a no-op worker for `benchmarks.scaling`: REDIS_URL=… python -m benchmarks.noop
    settings = Settings.from_env()
    BatchWorker(Store(connect(settings.redis_url, timeout=60), settings), batch).work()
