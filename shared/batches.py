"""The verbs for batches, beside `Store`'s for single pictures. A batch is its chunks, and a chunk is one RQ job.

Chunk number n of batch `id` is `{id}-{n}`, so that nobody has to keep a list of them.
"""

from __future__ import annotations

import json
import re
import time
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import redis

from shared import keys, redis_scripts
from shared.batch import Batch, BatchState, result
from shared.chunks import Chunk
from shared.claims import Claim
from shared.connections.connection import redis_errors
from shared.errors import (
    Expired,
    IdempotencyMismatch,
    NotFound,
    RedisUnavailable,
    StillRunning,
    TooManyImages,
    WritesRefused,
)
from shared.ids import new_id
from shared.keys import Priority
from shared.prediction import theirs
from shared.store import Store
from shared.submission import ANYBODY, Caller, door

#: How long a chunk is kept that is not yet part of a batch: its producer may die before it has handed in the last one.
STAGED_SECONDS = 120
#: Chunks that one call takes back or forgets, so that a large batch does not hold up Redis.
CANCELLED_AT_ONCE = 16
#: Seconds between two looks of one who waits: at first, and at most; a look that also repairs is rarer.
POLL_SECONDS, LONGEST_POLL_SECONDS, REPAIR_SECONDS = 0.02, 0.1, 2.0


#: Answer of `finish`: RQ has dependents to enqueue.
DEPENDENTS = 2
#: What is noted of a picture: [digit, confidence, decision, reason, warnings], or [code, message] of its error.
Row = Sequence[Any]
#: By position in the chunk.
Rows = dict[int, Row]
_CHUNK = re.compile(r"([A-Za-z0-9_-]{24})-[0-9]{1,6}")


@dataclass(frozen=True, slots=True)
class Held:
    """A chunk under a BatchWorker's lease."""

    worker: str
    claim: Claim


@dataclass(slots=True)
class Progress:
    """What is known of a chunk when a worker begins with it."""

    attempt: str
    count: int
    #: Positions that have a result.
    done: set[int] = field(default_factory=set)
    #: Position -> how many workers have died in the middle of it alone.
    deaths: dict[int, int] = field(default_factory=dict)
    #: How many have died in this chunk since the last result, without a hint at which picture.
    stalls: int = 0


class Batches:
    """What is done with batches. One object serves any number of threads."""

    def __init__(self, store: Store) -> None:
        self._store, self._client, self._settings = store, store.client, store.settings

    # ------------------------------------------------------------------ the producer's verbs

    def submit(
        self,
        chunks: Iterable[Chunk],
        expected: int = 0,
        *,
        priority: Priority = Priority.LOW,
        idempotency_key: str = "",
        fingerprint: str = "",
        caller: Caller = ANYBODY,
        notes: Mapping[str, str] | None = None,
        skipped: Callable[[], int] = lambda: 0,
    ) -> Batch:
        """Accepts a batch whole or not at all, its chunks as they come; or returns the first one under the same key.

        With `expected` pictures a full queue refuses before the first chunk is asked for. `notes` are kept with each
        chunk; `skipped` is asked after the last one how many files were no pictures.

        Raises QueueFull, RateLimited, IdempotencyMismatch, RedisUnavailable, and what the chunks raise.
        """
        self._store.check_server()
        id, total, count = new_id(), 0, 0
        key = (priority, door(caller, idempotency_key, fingerprint))
        if expected or idempotency_key:
            answer, first = self._commit(id, expected, 0, *key)
            if answer == "repeated":
                return self.fetch(first, caller.owner)
        try:
            for chunk in chunks:
                self._stage(f"{id}-{count}", id, total, chunk, notes or {})
                total, count = total + chunk.count, count + 1
            answer, first = self._commit(id, total, count, *key, skipped())
        except BaseException:
            self._drop(id, count + 1)
            raise
        if answer == "repeated" and first != id:
            self._drop(id, count)
        return self.fetch(first, caller.owner)

    def _commit(
        self, id: str, total: int, count: int, priority: Priority, door: dict[str, str], skipped: int = 0
    ) -> tuple[str, str]:
        s = self._settings
        if total > (limit := s.queue_max_length):  # it would find the queue full for ever
            raise TooManyImages(f"The batch holds {total} images, and {limit} may wait at a time", limit=limit)
        others = [keys.queue(name) for name in keys.QUEUES if name != priority.queue]
        rate, period = self._store.rate
        args = redis_scripts.arguments(
            id=id, queue=priority.queue, total=total, chunks=count, limit=s.queue_max_length,
            max_bytes=s.queue_max_bytes, ttl=s.result_ttl_seconds, func=keys.CHUNK_FUNCTION,
            timeout=4 * s.job_timeout_seconds, attempts=s.max_attempts, rate=rate, period=period, skipped=skipped,
            **door,
        )  # fmt: skip
        reply = self._store.run_safely("submit_batch", [keys.queue(priority.queue), *others], args)
        self._store.check_entered(reply)
        answer, *first = reply
        if answer == b"mismatch":
            raise IdempotencyMismatch("The idempotency key belongs to another upload")
        if answer == b"lost":
            raise RedisUnavailable("The batch took too long to hand over", retry_after_seconds=1)
        return answer.decode(), first[0].decode()

    def _stage(self, id: str, batch: str, first: int, chunk: Chunk, notes: Mapping[str, str]) -> None:
        record = {"state": "queued", "batch": batch, "first": first, "count": chunk.count, "done": 0,
                  "names": json.dumps(chunk.names) if chunk.names else "",
                  "about": json.dumps(dict(notes))}  # fmt: skip

        def write() -> None:
            with redis_errors(), self._client.pipeline() as pipeline:
                pipeline.set(keys.chunk(id), chunk.data, ex=STAGED_SECONDS)
                pipeline.hset(keys.results(id), mapping=record)  # type: ignore[arg-type]
                pipeline.expire(keys.results(id), STAGED_SECONDS)
                pipeline.execute()

        self._store.reserve(len(chunk.data))
        self._store.with_room(write, len(chunk.data))

    def _drop(self, id: str, count: int) -> None:
        """What was staged goes, unless it has become a batch after all: an answer may have been lost on its way."""
        with redis_errors():
            if not self._client.exists(keys.batch(id)):
                self._client.delete(*(key(f"{id}-{n}") for n in range(count) for key in (keys.chunk, keys.results)))

    def fetch(self, id: str, owner: str | None = None) -> Batch:
        """The batch as it stands, repaired; with an owner only if it is theirs.

        Raises NotFound, Expired, Lost, RedisUnavailable.
        """
        try:
            reply = self._store.tell("fetch_batch", id=id, ttl=self._settings.result_ttl_seconds)
            record = redis_scripts.pairs(reply)
        except WritesRefused:
            record = {name: value.decode("utf-8", "replace") for name, value in self._hash(keys.batch(id)).items()}
        if not record:
            raise self._store.missing(id, "batch")
        if record["state"] == "forgotten" or not theirs(record, owner, "owner"):
            raise NotFound("There is no such batch")
        return Batch.from_fields(id, record)

    def wait(
        self, id: str, seconds: float, stopped: Callable[[], bool] = lambda: False, owner: str | None = None
    ) -> Batch:
        """Returns the batch once it has ended, `seconds` are over or it is `stopped`. Raises what fetch raises."""
        end, looks = time.monotonic() + seconds, self.looks(id, owner)
        while True:
            batch, pause = next(looks)
            left = 0.0 if stopped() else end - time.monotonic()
            if batch.state.terminal or left <= 0:
                return batch if batch.state.terminal else self.fetch(id, owner)
            time.sleep(min(pause, left))

    def looks(self, id: str, owner: str | None = None) -> Iterator[tuple[Batch, float]]:
        """Yields the batch again and again, each time with the seconds to wait before the next look.

        Its counts may be REPAIR_SECONDS old until it has ended. Raises what fetch raises.
        """
        pause, looked = POLL_SECONDS, float("-inf")
        while True:
            if time.monotonic() - looked >= REPAIR_SECONDS:
                looked, batch = time.monotonic(), self.fetch(id, owner)
            elif self._state(id) not in (b"queued", b"running"):
                batch = self.fetch(id, owner)
            yield batch, pause
            pause = min(pause * 1.2, LONGEST_POLL_SECONDS)

    def _state(self, id: str) -> bytes | None:
        with redis_errors():
            state: Any = self._client.hget(keys.batch(id), "state")
        return cast("bytes | None", state)

    def results(self, id: str, owner: str | None = None) -> Iterator[dict[str, Any]]:
        """One result for each picture, in their order, as they stand. Raises what fetch raises, before the first."""
        return self.results_of(self.fetch(id, owner))

    def results_of(self, batch: Batch) -> Iterator[dict[str, Any]]:
        """As many results as the batch has pictures; those whose record has expired say so.

        Raises RedisUnavailable; Expired where the batch itself is gone meanwhile.
        """
        at = 0
        for n in range(self._count(batch.id)):
            for row in self._rows(f"{batch.id}-{n}"):
                yield from self._expired(batch.id, at, row["index"])
                at = row["index"] + 1
                yield row
        yield from self._expired(batch.id, at, batch.total)

    def _expired(self, id: str, start: int, end: int) -> Iterator[dict[str, Any]]:
        """Results for pictures of which nothing is kept any more. Raises Expired if the batch is gone, too."""
        if start < end and self._state(id) in (None, b"forgotten"):
            raise Expired("The batch has expired, or was deleted, while its results were read")
        for index in range(start, end):
            yield result(index, None, "failed", (Expired.code, "The picture has expired"))

    def _rows(self, id: str) -> list[dict[str, Any]]:
        record = self._hash(keys.results(id))
        if not record:
            return []
        count, first, rows = int(record["count"]), int(record["first"]), _noted(record)
        names = json.loads(record["names"] or "[]") or [None] * count
        state, error = record["state"].decode(), record.get("error_code", b"").decode()
        if state == "ended":
            state = record["rest"].decode()
        lacking = [error, record["error_message"].decode()] if error else []
        return [
            result(first + at, name, state_of(rows[at]) if at in rows else state, rows.get(at, lacking))
            for at, name in enumerate(names)
        ]

    def _hash(self, key: str) -> dict[str, bytes]:
        try:
            with redis_errors():
                record: Any = self._client.hgetall(key)
        except redis.ResponseError:
            return {}  # of another type: as good as gone
        return {name.decode(): value for name, value in record.items()}

    def cancel(self, id: str, owner: str | None = None) -> None:
        """Takes back what waits, or forgets an ended batch. Raises StillRunning, and what fetch raises."""
        state, count, changed = self.fetch(id, owner).state, self._count(id), 0
        for first in range(0, count, CANCELLED_AT_ONCE):
            last = first + CANCELLED_AT_ONCE - 1
            ttl = self._settings.result_ttl_seconds
            changed += self._store.tell("cancel_batch", id=id, ttl=ttl, state=state.value, first=first, last=last)
        if not changed and state is BatchState.RUNNING:
            raise StillRunning("All that is left of the batch is running")

    def _count(self, id: str) -> int:
        with redis_errors():
            return int(self._client.hget(keys.batch(id), "chunks") or 0)

    # ------------------------------------------------------------------ the worker's verbs

    def start(self, id: str) -> str:
        """Starts a chunk on RQ's own path. Returns the attempt; "0" for one that has ended."""
        return str(self._store.tell("chunk", step="start", id=id, ttl=self._settings.result_ttl_seconds).decode())

    def pack(self, id: str) -> bytes:
        """The packed pictures; empty where they are gone."""
        return self._store.get(keys.chunk(id)) or b""

    def progress(self, id: str, attempt: str) -> Progress:
        """Where a chunk stands that was started as this attempt."""
        record = self._hash(keys.results(id))
        deaths = {int(name[7:]): int(n) for name, n in record.items() if name.startswith("deaths:")}
        count, stalls = int(record.get("count", 0)), int(record.get("stalls", 0))
        return Progress(attempt, count, set(_noted(record)), deaths, stalls)

    def note(self, id: str, attempt: str, rows: Rows, suspect: str = "", held: Held | None = None) -> bool:
        """Keeps results, and which picture comes next if it is to be blamed. False: the chunk is not ours any more."""
        return bool(self._write("note", id, attempt, rows, held, suspect=suspect))

    def finish(self, id: str, attempt: str, rows: Rows, held: Held | None = None, seconds: float = 0) -> int:
        """Ends a chunk with its last results, and the RQ job of a claim. 0: fenced off; or DEPENDENTS."""
        ends: dict[str, Any] = {"suspect": ""}
        if held is not None:
            value = b64encode(json.dumps(summary(id)).encode()).decode()
            ends |= {"result_ttl": held.claim.result_ttl, "failure_ttl": held.claim.failure_ttl, "value": value,
                     "claimed_at": held.claim.claimed_at, "seconds": seconds}  # fmt: skip
        return self._write("finish", id, attempt, rows, held, **ends)

    def _write(self, step: str, id: str, attempt: str, rows: Rows, held: Held | None, **more: Any) -> int:
        found = sum(state_of(row) == "succeeded" for row in rows.values())
        text = json.dumps(rows, separators=(",", ":")) if rows else ""
        if held is not None:
            more |= {"worker": held.worker, "execution": held.claim.execution, "queue": held.claim.queue}
        args = redis_scripts.arguments(
            step=step, id=id, ttl=self._settings.result_ttl_seconds, attempt=attempt, start=min(rows, default=0),
            succeeded=found, failed=len(rows) - found, margin=min(1.0, self._settings.lease_seconds / 5), **more,
        )  # fmt: skip
        return int(self._store.run("chunk", [], [*args, text]))


def state_of(row: Row) -> str:
    """An outcome has five values, an error has code and message."""
    return "succeeded" if len(row) == 5 else "failed"


def summary(chunk: str) -> dict[str, str]:
    """The return value of a chunk's RQ job: the results are in the chunk's record."""
    return {"batch": batch_of(chunk) or "", "chunk": chunk}


def batch_of(job: str) -> str | None:
    """The batch that a job is a chunk of, by its id; None for any other job."""
    match = _CHUNK.fullmatch(job)
    return match[1] if match else None


def _noted(record: dict[str, bytes]) -> Rows:
    rows: Rows = {}
    for name, text in record.items():
        if name.startswith("rows:"):
            rows.update({int(at): row for at, row in json.loads(text).items()})
    return rows
