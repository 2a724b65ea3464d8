"""Job functions for the tests; a worker runs them only if they are on its allow-list."""

from __future__ import annotations

import time
from typing import Any

from rq import get_current_job

from shared.errors import UndecodableImage
from tests.fakes import outcome


def classify(id: str) -> dict[str, Any]:
    """Classifies like worker.tasks.classify, with tests.fakes and without our records: the stock side."""
    job = get_current_job()
    assert job is not None
    image = job.connection.get(f"digitq:image:{id}")
    if image == b"undecodable":
        job.retries_left = job.retries_left and 0
        raise UndecodableImage("The image cannot be decoded")
    if image == b"bug":
        raise RuntimeError("a bug in the classifier")
    if image == b"slow":
        time.sleep(60)
    return outcome(int(image[-1:])).summary()


def double(number: int) -> int:
    return 2 * number


def explode() -> None:
    raise RuntimeError("boom")


def on_success(job: Any, connection: Any, result: Any) -> None:
    connection.incr("test:success")


def on_failure(job: Any, connection: Any, *error: Any) -> None:
    connection.incr("test:failure")


def never(job: Any, connection: Any, *error: Any) -> None:
    connection.incr("test:never")
