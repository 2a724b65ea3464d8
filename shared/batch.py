"""Batches of pictures, as the record in Redis and as the JSON object of the API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NotRequired, Protocol, TypedDict

from shared.numbers import PageReading, Read
from shared.record import asked, rfc3339, seconds_of

#: The fields of a result, in this order, and the CSV's columns. `state` is a prediction's; `error` has a code and a
#: message.
COLUMNS = ("index", "filename", "state", "digit", "confidence", "decision", "reason", "warnings", "error")
#: The further fields of a batch that is read as numbers.
PAGE_COLUMNS = ("numbers", "grid", "rotated")


class BatchResult(TypedDict):
    """The result of one picture of a batch."""

    #: Position in the batch, from 0.
    index: int
    filename: str | None
    #: One of `State`'s values.
    state: str
    #: The best guess, whatever the decision; None without one.
    digit: int | None
    confidence: float | None
    #: `accept`, `review` or `reject`.
    decision: str | None
    reason: str | None
    warnings: list[str]
    #: `code` and `message`.
    error: dict[str, str] | None
    #: The version of the model that read it; None without a digit, and from older workers.
    model: str | None
    #: These three only if it was read as numbers: see `PageReading.from_json`.
    numbers: NotRequired[list[dict[str, Any]] | None]
    grid: NotRequired[dict[str, Any] | None]
    rotated: NotRequired[int | None]


class BatchState(StrEnum):
    """The state of a batch."""

    #: No worker has started on it.
    QUEUED = "queued"
    #: A worker has started, and not all pictures have ended.
    RUNNING = "running"
    #: All pictures have ended: succeeded, failed or expired.
    FINISHED = "finished"
    #: All pictures have ended, some by being cancelled.
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """True if the state is final."""
        return self in (BatchState.FINISHED, BatchState.CANCELLED)


class BatchSource(Protocol):
    """A client that can fetch and cancel batches, over HTTP or in Redis."""

    def get_batch(self, id: str, wait: float = 0) -> Batch:
        """Return the batch, once it has ended or after `wait` seconds."""

    def results(self, id: str) -> list[BatchResult]:
        """Return the results in the order of the pictures."""

    def cancel_batch(self, id: str) -> None:
        """Cancel the queued pictures, or delete an ended batch."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch when it was read. Times are Unix seconds of Redis's clock."""

    id: str
    state: BatchState
    total: int
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    #: Files of a zip that are no pictures; they are not part of `total`.
    skipped: int = 0
    read: Read = "digit"
    #: The name of the zip or IDX file, if its sender gave it.
    filename: str | None = None
    submitted_at: float | None = None
    started_at: float | None = None
    finished_at: float | None = None
    #: Set by the clients, for the methods below.
    source: BatchSource | None = field(default=None, repr=False, compare=False)

    def wait(self, timeout: float = 60) -> Batch:
        """Wait until all pictures have ended; return the batch. Raises TimeoutError after `timeout` seconds."""
        return (self if self.state.terminal else asked(self.source).get_batch(self.id, wait=timeout)).ended(timeout)

    def ended(self, timeout: float) -> Batch:
        """Return this batch if all its pictures have ended. Raises TimeoutError, after `timeout` seconds, if not."""
        if not self.state.terminal:
            raise TimeoutError(f"batch {self.id} is still {self.state.value} after {timeout:g} s")
        return self

    def refresh(self) -> Batch:
        """Read the batch again."""
        return asked(self.source).get_batch(self.id)

    def results(self) -> list[BatchResult]:
        """Return a result for each picture, in order; pictures may still be `queued` or `running`."""
        return asked(self.source).results(self.id)

    def cancel(self) -> None:
        """Cancel the queued pictures, or delete an ended batch. Raises StillRunning."""
        asked(self.source).cancel_batch(self.id)

    @classmethod
    def from_fields(cls, id: str, fields: Mapping[str, Any], source: BatchSource | None = None) -> Batch:
        """Parse the record `digitq:batch:{id}`, or the JSON object of the API."""
        counts = {name: int(fields.get(name) or 0) for name in ("total", "succeeded", "failed", "cancelled", "skipped")}
        times = {name: seconds_of(fields.get(name)) for name in ("submitted_at", "started_at", "finished_at")}
        read = fields.get("read") or "digit"
        named = {"read": read, "filename": fields.get("filename") or None}
        return cls(id, BatchState(fields["state"]), **counts, **times, **named, source=source)  # type: ignore[arg-type]

    def to_json(self, root: str = "") -> dict[str, Any]:
        """Return the JSON object of the API; its links start with `root`, the sub-path of a proxy."""
        own = f"{root}/v1/batches/{self.id}"
        return {
            "id": self.id,
            "state": self.state.value,
            "filename": self.filename,
            "total": self.total,
            "succeeded": self.succeeded,
            "failed": self.failed,
            "cancelled": self.cancelled,
            "skipped": self.skipped,
            **({"read": self.read} if self.read != "digit" else {}),
            "submitted_at": rfc3339(self.submitted_at),
            "started_at": rfc3339(self.started_at),
            "finished_at": rfc3339(self.finished_at),
            "links": {"self": own, "results": f"{own}/results"},
        }


def result(
    index: int,
    filename: str | None,
    state: str,
    row: Sequence[Any] = (),
    read: Read = "digit",
    model: str | None = None,
) -> dict[str, Any]:
    """Return one result: COLUMNS, the model that read it, and PAGE_COLUMNS if it is read as numbers.

    `row` is written by a worker: five values of an outcome, and a sixth for numbers; or code and message of an error.
    """
    values: list[Any] = [None, None, None, None, [], None]
    if len(row) > 2:
        values = [*row[:5], None]
    elif row:
        values[-1] = {"code": row[0], "message": row[1]}
    found = dict(zip(COLUMNS, (index, filename or None, state, *values), strict=True))
    found["model"] = model if len(row) > 2 else None
    if read == "digit":
        return found
    page = PageReading.from_noted(row[5]) if len(row) > 5 else None
    return found | (page.to_json() if page else dict.fromkeys(PAGE_COLUMNS))
