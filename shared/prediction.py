"""The prediction: read from RQ's job and our fields in its hash, and written as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any, Protocol

import orjson

from shared.errors import PredictionFailed
from shared.ids import issued_at
from shared.numbers import FoundGrid, FoundNumber, PageReading


class State(StrEnum):
    """The state of a prediction. A terminal state only changes if an operator requeues the job."""

    #: Waiting for a worker.
    QUEUED = "queued"
    #: Claimed by a worker.
    RUNNING = "running"
    #: It has a digit.
    SUCCEEDED = "succeeded"
    #: It has an error with a code.
    FAILED = "failed"
    #: Cancelled before a worker claimed it.
    CANCELLED = "cancelled"
    #: Expired before a worker claimed it.
    EXPIRED = "expired"

    @property
    def terminal(self) -> bool:
        """True if the state is final."""
        return self not in (State.QUEUED, State.RUNNING)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a worker for one picture. A page without exactly one digit has None for the first three fields."""

    digit: int | None
    confidence: float | None
    probabilities: tuple[float, ...] | None
    decision: str
    warnings: tuple[str, ...]
    #: 784 bytes, row by row: the 28x28 picture that the model saw; empty if there is no single one.
    input: bytes
    #: Why it is not accepted: `low_confidence`, `not_a_digit`, `no_ink`, `several_digits`; None if it is.
    reason: str | None = None
    #: Probability that the picture shows a digit at all.
    digitness: float = 1.0
    #: The reading of a picture submitted with `read=numbers`; None for any other.
    page: PageReading | None = None

    def summary(self) -> dict[str, Any]:
        """Return the short return value of the RQ job; the rest is in `digitq_found`."""
        found = {"digit": self.digit, "confidence": rounded(self.confidence), "decision": self.decision}
        return found if self.page is None else {**found, "numbers": [number.text for number in self.page.numbers]}

    def noted(self) -> dict[str, Any]:
        """Return the fields to store, with six significant digits, without defaults."""
        found: dict[str, Any] = {
            "digit": self.digit,
            "confidence": rounded(self.confidence),
            "probabilities": None if self.probabilities is None else list(map(rounded, self.probabilities)),
            "decision": self.decision,
        }
        if self.reason:
            found["reason"] = self.reason
        if self.warnings:
            found["warnings"] = self.warnings
        return found if self.page is None else found | self.page.noted()


def rounded(number: float | None) -> float | None:
    """Round to six significant digits, about the precision of float32."""
    return None if number is None else float(f"{number:.6g}")


#: The fields that are read and published: RQ's, and ours in the same hash, which RQ ignores.
#: `digitq_run` is "attempt:execution"; `digitq_about` has the notes of the upload, `digitq_found` the outcome or an
#: error, both JSON.
RECORD = (
    "status", "created_at", "started_at", "ended_at", "digitq_run", "digitq_owner", "digitq_about", "digitq_found",
)  # fmt: skip
_STATES = {
    "started": State.RUNNING, "finished": State.SUCCEEDED, "failed": State.FAILED,
    "canceled": State.CANCELLED, "stopped": State.CANCELLED,
}  # fmt: skip
_POISON = ("poison", "Every worker that took this picture died or lost it.")
_NO_ANSWER = ("lost", "The job ended without an answer.")


def state_of(record: Mapping[str, str]) -> tuple[State, dict[str, Any]]:
    """Derive the state that clients see from RQ's status, and return the outcome with it, or its `error`.

    The outcome of an earlier run is ignored if the job was requeued.
    """
    state = _STATES.get(record["status"], State.QUEUED)  # queued, scheduled, deferred and others
    found = said(record.get("digitq_found"))
    if state is State.SUCCEEDED and "digit" not in found:
        state, found = State.FAILED, {"error": _NO_ANSWER, **found}
    if state is State.FAILED:
        found.setdefault("error", _POISON)
        return (State.EXPIRED if found["error"][0] == "expired" else state), found
    return state, found if state is State.SUCCEEDED else {}


def said(text: str | None) -> dict[str, Any]:
    """Parse the JSON object of a field; empty if it is missing or something else."""
    try:
        found = orjson.loads(text) if text else {}
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def ends(message: bytes) -> list[dict[str, str]]:
    """Return the records of a message of `digitq:events`, each with its `id`; `ended_at` is shared by all."""
    told = orjson.loads(message)
    return [{"ended_at": told["ended_at"], **record} for record in told["ended"]]


def theirs(record: Mapping[str, Any], owner: str | None, field: str = "digitq_owner") -> bool:
    """Return True if a record belongs to the owner; None, for direct access to Redis, sees everything."""
    return owner is None or (record.get(field) or "") == owner


class Source(Protocol):
    """A source to read predictions again: the HTTP API or Redis."""

    def get(self, id: str, wait: float = 0) -> Prediction:
        """Return the prediction, once it has ended or after `wait` seconds."""

    def cancel(self, id: str) -> None:
        """Cancel or delete a prediction."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """A prediction. Times are Unix seconds of Redis's clock, durations are in ms."""

    id: str
    state: State
    filename: str | None = None
    digit: int | None = None
    confidence: float | None = None
    probabilities: list[float] | None = None
    decision: str | None = None
    #: Why the decision is not `accept`; see `Outcome`.
    reason: str | None = None
    warnings: list[str] = field(default_factory=list)
    model: str | None = None
    #: Version of the preprocessing.
    preprocessing: str | None = None
    attempt: int = 0
    batch: dict[str, int] | None = None
    submitted_at: float | None = None
    started_at: float | None = None
    finished_at: float | None = None
    timings_ms: dict[str, float] | None = None
    error: dict[str, str] | None = None
    queue_position: int | None = None
    #: The numbers read with `read=numbers`, in reading order; None for a single digit, and before it was read.
    numbers: list[FoundNumber] | None = None
    #: The ruled table of these numbers, if there is one.
    grid: FoundGrid | None = None
    #: Degrees that the picture was turned clockwise to read the numbers; None without them.
    rotated: int | None = None
    #: Set by the clients, for `wait` and `refresh`.
    source: Source | None = field(default=None, repr=False, compare=False)

    @property
    def lines(self) -> list[str]:
        """The text of each row of the numbers; see `PageReading.lines`."""
        return PageReading(tuple(self.numbers or ()), self.grid, self.rotated or 0).lines

    def wait(self, timeout: float = 30) -> Prediction:
        """Return the prediction once it has succeeded. Raises PredictionFailed; TimeoutError after `timeout` s."""
        ended = self if self.state.terminal or self.source is None else self.source.get(self.id, wait=timeout)
        if not ended.state.terminal:
            raise TimeoutError(f"prediction {self.id} is still {ended.state.value} after {timeout:g} s")
        if ended.state is not State.SUCCEEDED:
            error = ended.error or {"code": ended.state.value, "message": f"The prediction was {ended.state.value}."}
            raise PredictionFailed(f"{error['code']}: {error['message']}", prediction=ended)
        return ended

    def refresh(self) -> Prediction:
        """Read the prediction again."""
        return self if self.source is None else self.source.get(self.id)

    def cancel(self) -> None:
        """Cancel a waiting prediction, or delete an ended one. Raises StillRunning."""
        if self.source is not None:
            self.source.cancel(self.id)

    @classmethod
    def from_json(cls, body: Mapping[str, Any], source: Source | None = None) -> Prediction:
        """Parse the JSON of the API; unknown members are ignored."""
        plain = {name: body.get(name) for name in (
            "id", "filename", "digit", "confidence", "probabilities", "decision", "reason", "model",
            "preprocessing", "batch", "timings_ms", "error", "queue_position",
        )}  # fmt: skip
        times = {name: _seconds(body.get(name)) for name in ("submitted_at", "started_at", "finished_at")}
        return cls(state=State(body["state"]), warnings=body.get("warnings") or [], attempt=body.get("attempt") or 0,
                   source=source, **plain, **times, **_page(PageReading.from_json(body)))  # type: ignore[arg-type]  # fmt: skip

    @classmethod
    def from_record(cls, id: str, record: Mapping[str, str], queue_position: int | None = None) -> Prediction:
        """Parse the fields of RECORD; a missing one is None."""
        state, found = state_of(record)
        get, batch = record.get, found.get("batch")
        submitted, started, finished = (_seconds(get(at)) for at in ("created_at", "started_at", "ended_at"))
        finished = finished if state.terminal else None
        attempt = (get("digitq_run") or "").partition(":")[0]
        error = dict(zip(("code", "message"), found["error"], strict=True)) if "error" in found else None
        return cls(
            id=id,
            state=state,
            filename=said(get("digitq_about")).get("filename"),
            digit=found.get("digit"),
            confidence=found.get("confidence"),
            probabilities=found.get("probabilities"),
            decision=found.get("decision"),
            reason=found.get("reason"),
            warnings=found.get("warnings") or [],
            model=found.get("model") or None,
            preprocessing=found.get("preprocessing") or None,
            attempt=int(attempt) if started and attempt.isdigit() else 0,
            batch={"size": batch[0], "position": batch[1]} if batch else None,
            submitted_at=submitted if submitted is not None else issued_at(id),
            started_at=started,
            finished_at=finished,
            timings_ms=_timings(found.get("ms") or (0, 0), submitted, started, finished),
            error=error,
            queue_position=queue_position,
            **_page(PageReading.from_noted(found)),
        )

    def to_json(self, root: str = "") -> dict[str, Any]:
        """Return the JSON of the API; its links start with `root`, the sub-path of a proxy."""
        own = f"{root}/v1/predictions/{self.id}"
        position = {} if self.queue_position is None else {"queue_position": self.queue_position}
        page = {} if self.numbers is None else PageReading(tuple(self.numbers), self.grid, self.rotated or 0).to_json()
        return {
            "id": self.id,
            "state": self.state.value,
            "filename": self.filename,
            "digit": self.digit,
            "confidence": self.confidence,
            "probabilities": self.probabilities,
            "decision": self.decision,
            "reason": self.reason,
            **page,
            "warnings": self.warnings,
            "model": self.model,
            "preprocessing": self.preprocessing,
            "attempt": self.attempt,
            "batch": self.batch,
            **position,
            "submitted_at": rfc3339(self.submitted_at),
            "started_at": rfc3339(self.started_at),
            "finished_at": rfc3339(self.finished_at),
            "timings_ms": self.timings_ms,
            "links": {"self": own, "image": f"{own}/image"},
            "error": self.error,
        }


def _page(page: PageReading | None) -> dict[str, Any]:
    """Return the fields of a prediction that was read as numbers."""
    if page is None:
        return {}
    return {"numbers": list(page.numbers), "grid": page.grid, "rotated": page.rotated}


def rfc3339(seconds: float | None) -> str | None:
    """Format Unix seconds as `2026-01-31T12:00:00.123Z`."""
    if seconds is None:
        return None
    whole, micros = divmod(round(seconds * 1_000_000), 1_000_000)
    return f"{_to_the_second(whole)}.{micros // 1000:03d}Z"


@lru_cache(maxsize=64)
def _to_the_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().removesuffix("+00:00")


def _seconds(text: str | None) -> float | None:
    return datetime.fromisoformat(text).timestamp() if text else None


def _timings(
    measured: Sequence[float], submitted: float | None, started: float | None, finished: float | None
) -> dict[str, float] | None:
    """Return the durations of the stages, which add up to the total; None until all have run.

    The worker measures two stages with its own clock; the others are the rest by Redis's clock.
    """
    if submitted is None or started is None or finished is None:
        return None
    preprocess, inference = measured
    queue, total = (started - submitted) * 1000, (finished - submitted) * 1000
    store = total - queue - preprocess - inference
    stages = {"queue": queue, "preprocess": preprocess, "inference": inference, "store": store, "total": total}
    return {stage: round(ms, 3) for stage, ms in stages.items()}


def verdict(digit: int | None, confidence: float | None, decision: str | None, reason: str | None) -> str:
    """Format a digit with its confidence and decision; a rejected one as `?`, none as `-`."""
    why = f"{decision}: {reason}" if reason else f"{decision}"
    if digit is None or confidence is None:
        return f"-  ({why})"
    return f"?  ({digit} at {confidence:.1%}, {why})" if decision == "reject" else f"{digit}  ({confidence:.1%}, {why})"
