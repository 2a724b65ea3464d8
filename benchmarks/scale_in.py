"""Stops workers one after the other while they read one large batch, and counts attempts.

    make up WORKERS=8
    .venv/bin/python -m benchmarks.scale_in --data var/mnist --pictures 100000 --every 2

Every picture must be read, and no chunk may have counted an attempt more than one: a worker that is stopped gives back
its unread pictures. Stops all workers of this machine but one, with SIGTERM; `make up` does not start them again.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np

from producer import Queue
from shared import keys
from shared.batch import Batch
from shared.chunks import MAX_IMAGES
from shared.settings import Settings
from shared.store import Store, connect
from worker.training.data.idx import encode, load_mnist

#: Seconds between two looks at the batch.
LOOK_SECONDS = 0.2


@click.command()
@click.option("--data", type=click.Path(path_type=Path), default="var/mnist", show_default=True)
@click.option("--pictures", type=click.IntRange(1), default=100_000, show_default=True)
@click.option("--every", type=float, default=2.0, show_default=True, help="Seconds between two stops.")
def main(data: Path, pictures: int, every: float) -> None:
    """Submit a batch, stop all workers but one, and say what became of it."""
    settings = Settings.from_env()
    with Queue() as queue, connect(settings.redis_url) as client, TemporaryDirectory() as folder:
        store = Store(client, settings)
        began, path = time.monotonic(), Path(folder, "digits-idx3-ubyte")
        path.write_bytes(digits(data, pictures))
        batch = queue.submit_batch(path)
        stops, left = began + every, [int(name.split("-")[-2]) for name in store.workers()]
        click.echo(f"{len(left)} workers; accepted after {time.monotonic() - began:.1f} s")
        while not (batch := queue.get_batch(batch.id)).state.terminal:
            if len(left) > 1 and time.monotonic() >= stops:
                os.kill(left.pop(), signal.SIGTERM)
                stops = time.monotonic() + every
                click.echo(f"{time.monotonic() - began:6.1f} s: {len(left)} workers, {batch.succeeded:,} read")
            time.sleep(LOOK_SECONDS)
        took = time.monotonic() - began
        click.echo(f"{took:6.1f} s: {batch.succeeded:,} read, {batch.failed:,} failed")
        click.echo(f"chunks by attempts: {attempts(store, batch)}")


def digits(data: Path, count: int) -> bytes:
    """Return an IDX file of `count` digits: MNIST's test digits, again and again."""
    images = load_mnist(data).test_images
    return encode(images[np.arange(count) % len(images)])


def attempts(store: Store, batch: Batch) -> dict[str, int]:
    """Return how many chunks of a batch were started how often."""
    chunks = range(-(-batch.total // MAX_IMAGES))
    started = [store.client.hget(keys.results(f"{batch.id}-{number}"), "attempt") for number in chunks]
    return dict(Counter((one or b"?").decode() for one in started))  # type: ignore[union-attr]  # redis-py's types


if __name__ == "__main__":
    main()
