"""Operations on batches, beside `Store`'s on single pictures. A batch consists of chunks; a chunk is one RQ job.

Chunk n of batch `id` is `{id}-{n}`, so no list of them is needed.
"""

from __future__ import annotations

import json
import re
import time
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, cast

import orjson
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
from shared.numbers import Read
from shared.record import theirs
from shared.store import Store
from shared.submission import ANYBODY, Caller, admission, fingerprint_of

#: TTL of a staged chunk, in seconds: its producer may die before it has staged the last one.
STAGED_SECONDS = 120
#: Chunks cancelled or deleted in one call, so that a large batch does not block Redis.
CANCELLED_AT_ONCE = 16
#: Seconds between two polls of a waiting call: at least, and at most; polls that also repair are rarer. In between they
#: are a share of the time waited so far.
POLL_SECONDS, LONGEST_POLL_SECONDS, REPAIR_SECONDS, POLL_SHARE = 0.02, 0.1, 2.0, 0.05


#: Answer of `finish`: RQ has dependents to enqueue.
DEPENDENTS = 2
#: The result of a picture: [digit, confidence, decision, reason, warnings], and for numbers the noted page; or [code,
#: message] of its error.
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
    """The state of a chunk when a worker starts it."""

    attempt: str
    count: int
    #: Positions that have a result.
    done: set[int] = field(default_factory=set)
    #: Position -> number of workers that have died while they ran it alone.
    deaths: dict[int, int] = field(default_factory=dict)
    #: Workers that have died in this chunk since its last result, of unknown cause.
    stalls: int = 0


class Batches:
    """The operations. Thread-safe."""

    def __init__(self, store: Store) -> None:
        self._store, self._client, self._settings = store, store.client, store.settings

    # ------------------------------------------------------------------ operations of the producer

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
        read: Read = "digit",
        filename: str = "",
    ) -> Batch:
        """Submit a batch, all or nothing, from an iterator of chunks; or return the first one under the same key.

        With `expected` pictures a full queue refuses before the first chunk is read. `notes` are stored with each
        chunk; `skipped()` is called after the last one and returns the number of skipped files.
        `filename` is the name of the zip or IDX file, if there is one.

        Raises QueueFull, RateLimited, IdempotencyMismatch, RedisUnavailable, and what the chunks raise.
        """
        self._store.check_server()
        id, total, count = new_id(), 0, 0
        about = {"read": read, "filename": filename}
        key = (priority, admission(caller, idempotency_key, fingerprint_of(fingerprint, read)) | about)
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
        self, id: str, total: int, count: int, priority: Priority, admission: dict[str, str], skipped: int = 0
    ) -> tuple[str, str]:
        s = self._settings
        if total > (limit := s.queue_max_length):  # it would never fit
            raise TooManyImages(f"The batch holds {total} images, and {limit} may wait at a time", limit=limit)
        others = [keys.queue(name) for name in keys.QUEUES if name != priority.queue]
        rate, period = self._store.rate
        args = redis_scripts.arguments(
            id=id, queue=priority.queue, total=total, chunks=count, limit=s.queue_max_length,
            max_bytes=s.queue_max_bytes, ttl=s.result_ttl_seconds, func=keys.CHUNK_FUNCTION,
            timeout=4 * s.job_timeout_seconds, attempts=s.max_attempts, rate=rate, period=period, skipped=skipped,
            **admission,
        )  # fmt: skip
        reply = self._store.run_safely("submit_batch", [keys.queue(priority.queue), *others], args)
        self._store.check_entered(reply)
        answer, *first = reply
        if answer == b"mismatch":
            raise IdempotencyMismatch("The idempotency key belongs to another upload, or to another `read` of this one")
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
        """Delete staged chunks, unless they have become a batch: a response may have been lost."""
        with redis_errors():
            if not self._client.exists(keys.batch(id)):
                self._client.delete(*(key(f"{id}-{n}") for n in range(count) for key in (keys.chunk, keys.results)))

    def fetch(self, id: str, owner: str | None = None) -> Batch:
        """Return the batch, repaired; with an owner only if it is theirs.

        Raises NotFound, Expired, Lost, RedisUnavailable.
        """
        return self._found(id, self._records([id])[0], owner)

    def recent(self, limit: int, cursor: str | None = None, owner: str = "") -> tuple[list[Batch], str | None]:
        """Return a page of an owner's batches, newest first, and the cursor of the next page; as `Store.recent`."""
        ids, following = self._store.page_of(keys.recent_batches(owner), limit, cursor)
        page = []
        for id, record in zip(ids, self._records(ids) if ids else [], strict=True):
            if record:
                with suppress(NotFound):  # deleted
                    page.append(self._found(id, record, owner))
        return page, following

    def _records(self, ids: Sequence[str]) -> list[dict[str, str]]:
        """Read records in one round trip, repaired; an empty one for a batch that is gone."""
        try:
            replies = self._store.tell("fetch_batch", ids=ids, ttl=self._settings.result_ttl_seconds)
            return [redis_scripts.pairs(reply) for reply in replies]
        except WritesRefused:
            hashes = [self._hash(keys.batch(id)) for id in ids]
            return [{name: value.decode("utf-8", "replace") for name, value in one.items()} for one in hashes]

    def _found(self, id: str, record: dict[str, str], owner: str | None) -> Batch:
        if not record:
            raise self._store.missing(id, "batch")
        if record["state"] == "forgotten" or not theirs(record, owner, "owner"):
            raise NotFound("There is no such batch")
        return Batch.from_fields(id, record)

    def wait(
        self, id: str, seconds: float, stopped: Callable[[], bool] = lambda: False, owner: str | None = None
    ) -> Batch:
        """Return the batch once it has ended, `seconds` are over or it is `stopped`. Raises what fetch raises."""
        end, looks = time.monotonic() + seconds, self.looks(id, owner)
        while True:
            batch, pause = next(looks)
            left = 0.0 if stopped() else end - time.monotonic()
            if batch.state.terminal or left <= 0:
                return batch if batch.state.terminal else self.fetch(id, owner)
            time.sleep(min(pause, left))

    def looks(self, id: str, owner: str | None = None) -> Iterator[tuple[Batch, float]]:
        """Yield the batch repeatedly, each time with the seconds to wait before the next poll.

        Its counts may be REPAIR_SECONDS old until it has ended. Raises what fetch raises.
        """
        began, looked = time.monotonic(), float("-inf")
        while True:
            if time.monotonic() - looked >= REPAIR_SECONDS:
                looked, batch = time.monotonic(), self.fetch(id, owner)
            elif self._state(id) not in (b"queued", b"running"):
                batch = self.fetch(id, owner)
            waited = time.monotonic() - began
            yield batch, min(max(POLL_SECONDS, POLL_SHARE * waited), LONGEST_POLL_SECONDS)

    def _state(self, id: str) -> bytes | None:
        with redis_errors():
            state: Any = self._client.hget(keys.batch(id), "state")
        return cast("bytes | None", state)

    def results(self, id: str, owner: str | None = None) -> Iterator[dict[str, Any]]:
        """Return one result a picture, in order. Raises what fetch raises, before the first."""
        return self.results_of(self.fetch(id, owner))

    def results_of(self, batch: Batch) -> Iterator[dict[str, Any]]:
        """Yield as many results as the batch has pictures; those with an expired record are `expired`.

        Raises RedisUnavailable, and Expired if the batch is deleted meanwhile.
        """
        at = 0
        for n in range(self._count(batch.id)):
            for row in self._rows(f"{batch.id}-{n}", batch.read):
                yield from self._expired(batch, at, row["index"])
                at = row["index"] + 1
                yield row
        yield from self._expired(batch, at, batch.total)

    def _expired(self, batch: Batch, start: int, end: int) -> Iterator[dict[str, Any]]:
        """Yield results for pictures without a record. Raises Expired if the batch is gone, too."""
        if start < end and self._state(batch.id) in (None, b"forgotten"):
            raise Expired("The batch has expired, or was deleted, while its results were read")
        for index in range(start, end):
            yield result(index, None, "failed", (Expired.code, "The picture has expired"), batch.read)

    def _rows(self, id: str, read: Read) -> list[dict[str, Any]]:
        record = self._hash(keys.results(id))
        if not record:
            return []
        (rows, models), first = _noted(record), int(record["first"])
        names = json.loads(record["names"] or "[]") or [None] * int(record["count"])
        state, error = record["state"].decode(), record.get("error_code", b"").decode()
        if state == "ended":
            state = record["rest"].decode()
        lacking = state, [error, record["error_message"].decode()] if error else [], read
        found = {at: (state_of(row), row, read, models[at]) for at, row in rows.items()}
        return [result(first + at, name, *found.get(at, lacking)) for at, name in enumerate(names)]

    def _hash(self, key: str) -> dict[str, bytes]:
        try:
            with redis_errors():
                record: Any = self._client.hgetall(key)
        except redis.ResponseError:
            return {}  # of another type: treated as missing
        return {name.decode(): value for name, value in record.items()}

    def cancel(self, id: str, owner: str | None = None) -> None:
        """Cancel the queued chunks, or delete a finished batch. Raises StillRunning, and as `fetch`."""
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

    # ------------------------------------------------------------------ operations of the worker

    def start(self, id: str) -> str:
        """Start a chunk that RQ itself runs. Returns the attempt; "0" for one that has ended."""
        return str(self._store.tell("chunk", step="start", id=id, ttl=self._settings.result_ttl_seconds).decode())

    def pack(self, id: str) -> bytes:
        """Return the packed pictures; empty if they are gone."""
        return self._store.get(keys.chunk(id)) or b""

    def progress(self, id: str, attempt: str) -> Progress:
        """Return the state of a chunk that was started as `attempt`."""
        record = self._hash(keys.results(id))
        deaths = {int(name[7:]): int(n) for name, n in record.items() if name.startswith("deaths:")}
        count, stalls = int(record.get("count", 0)), int(record.get("stalls", 0))
        return Progress(attempt, count, set(_noted(record)[0]), deaths, stalls)

    def note(
        self, id: str, attempt: str, rows: Rows, suspect: str = "", held: Held | None = None, model: str = ""
    ) -> bool:
        """Store results of a model, and the picture that runs next alone, if any. Returns False if it is not ours."""
        return bool(self._write("note", id, attempt, rows, held, suspect=suspect, model=model))

    def finish(
        self, id: str, attempt: str, rows: Rows, held: Held | None = None, seconds: float = 0, model: str = ""
    ) -> int:
        """Finish a chunk with its last results, and its RQ job. Returns 0 if fenced off, or DEPENDENTS."""
        ends: dict[str, Any] = {"suspect": "", "model": model}
        if held is not None:
            value = b64encode(json.dumps(summary(id)).encode()).decode()
            ends |= {"result_ttl": held.claim.result_ttl, "failure_ttl": held.claim.failure_ttl, "value": value,
                     "claimed_at": held.claim.claimed_at, "seconds": seconds}  # fmt: skip
        return self._write("finish", id, attempt, rows, held, **ends)

    def _write(self, step: str, id: str, attempt: str, rows: Rows, held: Held | None, **more: Any) -> int:
        found = sum(state_of(row) == "succeeded" for row in rows.values())
        text = orjson.dumps(rows, option=orjson.OPT_NON_STR_KEYS) if rows else b""
        if held is not None:
            more |= {"worker": held.worker, "execution": held.claim.execution, "queue": held.claim.queue}
        args = redis_scripts.arguments(
            step=step, id=id, ttl=self._settings.result_ttl_seconds, attempt=attempt, start=min(rows, default=0),
            succeeded=found, failed=len(rows) - found, margin=self._settings.lease_margin(), **more,
        )  # fmt: skip
        return int(self._store.run("chunk", [], [*args, text]))


def state_of(row: Row) -> str:
    """Return the state of a result: an error has two values, an outcome more."""
    return "succeeded" if len(row) > 2 else "failed"


def summary(chunk: str) -> dict[str, str]:
    """Return the return value of a chunk's RQ job; the results are in the chunk's record."""
    return {"batch": batch_of(chunk) or "", "chunk": chunk}


def batch_of(job: str) -> str | None:
    """Return the batch id of a chunk's job id; None for any other job."""
    match = _CHUNK.fullmatch(job)
    return match[1] if match else None


def _noted(record: dict[str, bytes]) -> tuple[Rows, dict[int, str | None]]:
    """Return the results that a chunk has by position, and the models that read them; None for one of older workers."""
    rows: Rows = {}
    models: dict[int, str | None] = {}
    for name, text in record.items():
        if name.startswith("rows:"):
            some = {int(at): row for at, row in json.loads(text).items()}
            rows.update(some)
            models.update(dict.fromkeys(some, record.get(f"model:{name[5:]}", b"").decode() or None))
    return rows, models
