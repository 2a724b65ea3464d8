"""Planted bug: pops pictures with a plain LPOP loop. Pictures are lost when it dies."""

from __future__ import annotations

import json
import os
import socket
import time
from base64 import b64encode

import redis

from shared import keys
from shared.claims import Ran, note_of
from shared.errors import DigitqError, RedisUnavailable
from shared.prediction import Outcome
from shared.settings import Settings
from shared.store import Store, connect
from worker.service import classifier

#: Minimum seconds of a batch, as with a larger model: whenever it is killed, it holds pictures.
WORK_SECONDS = 1.0


def serve(store: Store, name: str) -> None:
    """Run a batch without a lease."""
    store.renew(name, [])
    ids = [id.decode() for queue in keys.QUEUES for id in store.client.lpop(keys.queue(queue), 64) or []]  # type: ignore[union-attr]
    time.sleep(WORK_SECONDS if ids else 0.01)
    images = {id: store.image(id) or b"" for id in ids}
    for id, result in zip(ids, classifier()(list(images.values())).results if ids else [], strict=False):
        end(store, id, result)


def end(store: Store, id: str, result: Outcome | Exception) -> None:
    """Write our part of the record, then RQ's, without a fence."""
    attempt = store.start_alone(id)
    store.client.hset(keys.job(id), "status", "started")
    if isinstance(result, Outcome):
        store.end_alone(id, attempt, "finished", note_of(result, Ran()), result.input)
        value = b64encode(json.dumps(result.summary()).encode())
        store.client.xadd(keys.return_values(id), {"type": 1, "return_value": value})
        store.client.expire(keys.return_values(id), 3600)
    else:
        code = result.code if isinstance(result, DigitqError) else "internal_error"
        store.end_alone(id, attempt, "failed", note_of((code, str(result)), Ran()))
    store.client.hset(keys.job(id), "status", "finished" if isinstance(result, Outcome) else "failed")
    store.client.expire(keys.job(id), 3600)


def main() -> None:
    """Run until killed."""
    settings = Settings.from_env()
    store = Store(connect(settings.redis_url, timeout=5), settings)
    classifier()
    while True:
        try:
            serve(store, f"{socket.gethostname()}-{os.getpid()}-broken")
        except (RedisUnavailable, redis.RedisError):
            time.sleep(0.2)


if __name__ == "__main__":
    main()
