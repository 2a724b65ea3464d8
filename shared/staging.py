"""Chunks whose batch is not submitted yet: each is staged as it is read, and dropped if the batch is not accepted."""

from __future__ import annotations

import json
from collections.abc import Mapping

from shared import keys
from shared.chunks import Chunk
from shared.connections.connection import redis_errors
from shared.store import Store

#: TTL of a staged chunk, in seconds: its producer may die before it has staged the last one.
STAGED_SECONDS = 120


def stage(store: Store, id: str, batch: str, first: int, chunk: Chunk, notes: Mapping[str, str]) -> None:
    """Write a chunk and its record, whose first picture is number `first` of the batch. Raises RedisUnavailable."""
    record = {"state": "queued", "batch": batch, "first": first, "count": chunk.count, "done": 0,
              "names": json.dumps(chunk.names) if chunk.names else "",
              "about": json.dumps(dict(notes))}  # fmt: skip

    def write() -> None:
        with redis_errors(), store.client.pipeline() as pipeline:
            pipeline.set(keys.chunk(id), chunk.data, ex=STAGED_SECONDS)
            pipeline.hset(keys.results(id), mapping=record)  # type: ignore[arg-type]
            pipeline.expire(keys.results(id), STAGED_SECONDS)
            pipeline.execute()

    store.reserve(len(chunk.data))
    store.with_room(write, len(chunk.data))


def drop(store: Store, batch: str, count: int) -> None:
    """Delete staged chunks, unless they have become a batch: a response may have been lost."""
    with redis_errors():
        if not store.client.exists(keys.batch(batch)):
            store.client.delete(*(key(f"{batch}-{n}") for n in range(count) for key in (keys.chunk, keys.results)))
