"""The batch: many pictures handed in at once, as the record in Redis holds it and as the outside reads it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from shared.prediction import rfc3339

#: What a result has, in this order. `state` is a prediction's; `error` has a code and a message.
COLUMNS = ("index", "filename", "state", "digit", "confidence", "decision", "reason", "warnings", "error")


class BatchState(StrEnum):
    """Where a batch stands."""

    #: No worker has begun.
    QUEUED = "queued"
    #: A worker has begun, and not all pictures have ended.
    RUNNING = "running"
    #: All pictures have ended, each in its own way.
    FINISHED = "finished"
    #: All pictures have ended, some because they were taken back.
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """True where nothing more will happen."""
        return self in (BatchState.FINISHED, BatchState.CANCELLED)


class BatchSource(Protocol):
    """Where a batch can be asked for again: the HTTP API or Redis itself."""

    def get_batch(self, id: str, wait: float = 0) -> Batch:
        """The batch as it stands, or after so many seconds at most as it has ended."""

    def results(self, id: str) -> Iterator[dict[str, Any]]:
        """Its results in the order of the pictures, see `COLUMNS`."""

    def cancel_batch(self, id: str) -> None:
        """Takes back what waits, or forgets it."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as it stands. Times are Unix seconds of Redis's clock."""

    id: str
    state: BatchState
    total: int
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    #: Files of a zip that are no pictures; they are not part of `total`.
    skipped: int = 0
    submitted_at: float | None = None
    started_at: float | None = None
    finished_at: float | None = None
    #: Set by the SDK, so that a batch can be waited for.
    source: BatchSource | None = field(default=None, repr=False, compare=False)

    def wait(self, timeout: float = 60) -> Batch:
        """The batch once all its pictures have ended, in whatever way. Raises TimeoutError after `timeout` seconds."""
        return (self if self.state.terminal else self._source().get_batch(self.id, wait=timeout)).ended(timeout)

    def ended(self, timeout: float) -> Batch:
        """Returns this batch if all its pictures have ended. Raises TimeoutError, after `timeout` seconds, if not."""
        if not self.state.terminal:
            raise TimeoutError(f"batch {self.id} is {self.state.value} after {timeout:g} s")
        return self

    def refresh(self) -> Batch:
        """The batch as it stands now."""
        return self._source().get_batch(self.id)

    def results(self) -> Iterator[dict[str, Any]]:
        """One dict for each picture, in their order, with `COLUMNS`; what has not ended is `queued` or `running`."""
        return self._source().results(self.id)

    def cancel(self) -> None:
        """Takes back what waits, or forgets an ended batch. Raises StillRunning."""
        self._source().cancel_batch(self.id)

    def _source(self) -> BatchSource:
        assert self.source is not None, "this batch was not handed out by a Client or a Queue"
        return self.source

    @classmethod
    def from_fields(cls, id: str, fields: Mapping[str, Any], source: BatchSource | None = None) -> Batch:
        """Reads a record as `digitq:batch:{id}` holds it, or the JSON object that the API answers."""
        counts = {name: int(fields.get(name) or 0) for name in ("total", "succeeded", "failed", "cancelled", "skipped")}
        times = {
            name: datetime.fromisoformat(fields[name]).timestamp() if fields.get(name) else None
            for name in ("submitted_at", "started_at", "finished_at")
        }
        return cls(id, BatchState(fields["state"]), **counts, **times, source=source)  # type: ignore[arg-type]

    def to_json(self, root: str = "") -> dict[str, Any]:
        """The JSON object of the API; its links start with `root`, the sub-path of a proxy."""
        own = f"{root}/v1/batches/{self.id}"
        return {
            "id": self.id,
            "state": self.state.value,
            "total": self.total,
            "succeeded": self.succeeded,
            "failed": self.failed,
            "cancelled": self.cancelled,
            "skipped": self.skipped,
            "submitted_at": rfc3339(self.submitted_at),
            "started_at": rfc3339(self.started_at),
            "finished_at": rfc3339(self.finished_at),
            "links": {"self": own, "results": f"{own}/results"},
        }


def result(index: int, filename: str | None, state: str, row: Sequence[Any] = ()) -> dict[str, Any]:
    """One result. `row` is what a worker has noted: five values of an outcome, or code and message of an error."""
    values: list[Any] = [None, None, None, None, [], None]
    if len(row) == 5:
        values = [*row, None]
    elif len(row) == 2:
        values[-1] = {"code": row[0], "message": row[1]}
    return dict(zip(COLUMNS, (index, filename or None, state, *values), strict=True))
