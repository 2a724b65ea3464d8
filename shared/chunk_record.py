"""Chunks of a batch as they are read: the record of their results, `digitq:results:{id}`, and the ids of their jobs."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import redis

from shared.batch import result
from shared.connections.connection import redis_errors
from shared.numbers import Read

#: The result of a picture: [digit, confidence, decision, reason, warnings], and for numbers the noted page; or [code,
#: message] of its error.
Row = Sequence[Any]
#: By position in the chunk.
Rows = dict[int, Row]
_CHUNK = re.compile(r"([A-Za-z0-9_-]{24})-[0-9]{1,6}")


def summary(chunk: str) -> dict[str, str]:
    """Return the return value of a chunk's RQ job; the results are in the chunk's record."""
    return {"batch": batch_of(chunk) or "", "chunk": chunk}


def batch_of(job: str) -> str | None:
    """Return the batch id of a chunk's job id; None for any other job."""
    match = _CHUNK.fullmatch(job)
    return match[1] if match else None


def hash_at(client: redis.Redis, key: str) -> dict[str, bytes]:
    """Return the record of a batch or of a chunk; empty if it is missing. Raises RedisUnavailable."""
    try:
        with redis_errors():
            record: Any = client.hgetall(key)
    except redis.ResponseError:
        return {}  # of another type: treated as missing
    return {name.decode(): value for name, value in record.items()}


def results_in(record: Mapping[str, bytes], read: Read) -> list[dict[str, Any]]:
    """Return one result a picture, in order; none for a missing record."""
    if not record:
        return []
    (rows, models), first = rows_in(record), int(record["first"])
    names = json.loads(record["names"] or "[]") or [None] * int(record["count"])
    state, error = record["state"].decode(), record.get("error_code", b"").decode()
    if state == "ended":
        state = record["rest"].decode()
    lacking = state, [error, record["error_message"].decode()] if error else [], read
    found = {at: (state_of(row), row, read, models[at]) for at, row in rows.items()}
    return [result(first + at, name, *found.get(at, lacking)) for at, name in enumerate(names)]


def rows_in(record: Mapping[str, bytes]) -> tuple[Rows, dict[int, str | None]]:
    """Return the rows that a record has so far, and the models that read them; None for one of older workers."""
    rows: Rows = {}
    models: dict[int, str | None] = {}
    for name, text in record.items():
        if name.startswith("rows:"):
            some = {int(at): row for at, row in json.loads(text).items()}
            rows.update(some)
            models.update(dict.fromkeys(some, record.get(f"model:{name[5:]}", b"").decode() or None))
    return rows, models


def state_of(row: Row) -> str:
    """Return the state of a result: an error has two values, an outcome more."""
    return "succeeded" if len(row) > 2 else "failed"
