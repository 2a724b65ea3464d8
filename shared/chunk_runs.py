"""Operations of workers on the chunks of a batch: start one, note its results as they come, finish it."""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import dataclass, field
from typing import Any

import orjson

from shared import keys, redis_scripts
from shared.chunk_record import Rows, hash_at, rows_in, state_of, summary
from shared.claims import Claim
from shared.store import Store

#: Answer of `finish`: RQ has dependents to enqueue.
DEPENDENTS = 2


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


class ChunkRuns:
    """The operations. `attempt` fences what they write: only the last run of a chunk can. Thread-safe."""

    def __init__(self, store: Store) -> None:
        self._store, self._settings = store, store.settings

    def start(self, id: str) -> str:
        """Start a chunk that RQ itself runs. Returns the attempt; "0" for one that has ended."""
        return str(self._store.tell("chunk", step="start", id=id, ttl=self._settings.result_ttl_seconds).decode())

    def pack(self, id: str) -> bytes:
        """Return the packed pictures; empty if they are gone."""
        return self._store.get(keys.chunk(id)) or b""

    def progress(self, id: str, attempt: str) -> Progress:
        """Return the state of a chunk that was started as `attempt`."""
        record = hash_at(self._store.client, keys.results(id))
        deaths = {int(name[7:]): int(n) for name, n in record.items() if name.startswith("deaths:")}
        count, stalls = int(record.get("count", 0)), int(record.get("stalls", 0))
        return Progress(attempt, count, set(rows_in(record)[0]), deaths, stalls)

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
