"""The prediction: what the record in Redis holds and what the outside reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any, Protocol

import orjson

from shared.errors import PredictionFailed


class State(StrEnum):
    """Where a prediction stands. Terminal states never change."""

    #: Accepted and waiting for a worker.
    QUEUED = "queued"
    #: In a worker's hands.
    RUNNING = "running"
    #: It has a digit.
    SUCCEEDED = "succeeded"
    #: It has an error with a code.
    FAILED = "failed"
    #: Taken back before a worker had it.
    CANCELLED = "cancelled"
    #: Its time to live ended before a worker had it.
    EXPIRED = "expired"

    @property
    def terminal(self) -> bool:
        """True where nothing more will happen."""
        return self not in (State.QUEUED, State.RUNNING)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a worker found in one picture, and how long its batch took for it."""

    digit: int
    confidence: float
    probabilities: tuple[float, ...]
    decision: str
    warnings: tuple[str, ...]
    #: 784 bytes, row by row: the 28x28 picture that the model saw.
    input: bytes
    #: Why it is not accepted: `low_confidence`, `not_a_digit`, `no_ink`, `several_digits`; None if it is.
    reason: str | None = None
    #: How likely the picture shows a digit at all, 0 to 1.
    digitness: float = 1.0

    def summary(self) -> dict[str, Any]:
        """The return value of the RQ job."""
        return {
            "digit": self.digit,
            "confidence": self.confidence,
            "probabilities": list(self.probabilities),
            "decision": self.decision,
            "reason": self.reason,
            "warnings": list(self.warnings),
        }


class Source(Protocol):
    """Where a prediction can be asked for again: the HTTP API or Redis itself."""

    def get(self, id: str, wait: float = 0) -> Prediction:
        """The prediction as it stands, or after so many seconds at most as it has ended."""

    def cancel(self, id: str) -> None:
        """Takes it back, or forgets it."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """One prediction as the outside sees it. Times are Unix seconds of Redis's clock, durations are in ms."""

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
    #: Version of what was done to the picture before the model saw it.
    preprocessing: str | None = None
    attempt: int = 0
    batch: dict[str, int] | None = None
    submitted_at: float | None = None
    started_at: float | None = None
    finished_at: float | None = None
    timings_ms: dict[str, float] | None = None
    error: dict[str, str] | None = None
    queue_position: int | None = None
    #: Set by the SDK, so that a prediction can be waited for.
    source: Source | None = field(default=None, repr=False, compare=False)

    def wait(self, timeout: float = 30) -> Prediction:
        """The prediction once it has succeeded. Raises TimeoutError after `timeout` seconds, PredictionFailed."""
        ended = self if self.state.terminal or self.source is None else self.source.get(self.id, wait=timeout)
        if not ended.state.terminal:
            raise TimeoutError(f"prediction {self.id} is {ended.state.value} after {timeout:g} s")
        if ended.state is not State.SUCCEEDED:
            error = ended.error or {"code": ended.state.value, "message": f"The prediction was {ended.state.value}."}
            raise PredictionFailed(f"{error['code']}: {error['message']}", prediction=ended)
        return ended

    def refresh(self) -> Prediction:
        """The prediction as it stands now."""
        return self if self.source is None else self.source.get(self.id)

    def cancel(self) -> None:
        """Takes a waiting prediction back, or forgets an ended one. Raises StillRunning."""
        if self.source is not None:
            self.source.cancel(self.id)

    @classmethod
    def from_json(cls, body: Mapping[str, Any], source: Source | None = None) -> Prediction:
        """Reads the JSON object of the contract; members that we do not know are ignored."""
        plain = {name: body.get(name) for name in (
            "id", "filename", "digit", "confidence", "probabilities", "decision", "reason", "model",
            "preprocessing", "batch", "timings_ms", "error", "queue_position",
        )}  # fmt: skip
        times = {name: _seconds(body.get(name)) for name in ("submitted_at", "started_at", "finished_at")}
        return cls(state=State(body["state"]), warnings=body.get("warnings") or [], attempt=body.get("attempt") or 0,
                   source=source, **plain, **times)  # type: ignore[arg-type]  # fmt: skip

    @classmethod
    def from_hash(cls, id: str, record: Mapping[str, str], queue_position: int | None = None) -> Prediction:
        """Reads a record as `digitq:prediction:{id}` holds it; a missing field is None."""
        get = record.get
        submitted, started, finished = (_seconds(get(at)) for at in ("submitted_at", "started_at", "finished_at"))
        return cls(
            id=id,
            state=State(record["state"]),
            filename=get("filename") or None,
            digit=int(record["digit"]) if get("digit") else None,
            confidence=float(record["confidence"]) if get("confidence") else None,
            probabilities=orjson.loads(record["probabilities"]) if get("probabilities") else None,
            decision=get("decision") or None,
            reason=get("reason") or None,
            warnings=orjson.loads(record["warnings"]) if get("warnings") else [],
            model=get("model") or None,
            preprocessing=get("preprocessing") or None,
            attempt=int(get("attempt") or 0),
            batch={"size": int(record["batch_size"]), "position": int(record["batch_position"])}
            if get("batch_size")
            else None,
            submitted_at=submitted,
            started_at=started,
            finished_at=finished,
            timings_ms=_timings(record, submitted, started, finished),
            error={"code": record["error_code"], "message": get("error_message") or ""} if get("error_code") else None,
            queue_position=queue_position,
        )

    def to_json(self, root: str = "") -> dict[str, Any]:
        """The JSON object of the contract; its links start with `root`, the sub-path of a proxy."""
        own = f"{root}/v1/predictions/{self.id}"
        position = {} if self.queue_position is None else {"queue_position": self.queue_position}
        return {
            "id": self.id,
            "state": self.state.value,
            "filename": self.filename,
            "digit": self.digit,
            "confidence": self.confidence,
            "probabilities": self.probabilities,
            "decision": self.decision,
            "reason": self.reason,
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


def rfc3339(seconds: float | None) -> str | None:
    """Unix seconds as `2026-01-31T12:00:00.123Z`."""
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
    record: Mapping[str, str], submitted: float | None, started: float | None, finished: float | None
) -> dict[str, float] | None:
    """Stages that add up to the total; None until the prediction has been through all of them.

    The worker measures two stages with its own clock; the others are what Redis's clock leaves around them.
    """
    if submitted is None or started is None or finished is None:
        return None
    preprocess, inference = float(record.get("preprocess_ms") or 0), float(record.get("inference_ms") or 0)
    queue, total = (started - submitted) * 1000, (finished - submitted) * 1000
    store = total - queue - preprocess - inference
    stages = {"queue": queue, "preprocess": preprocess, "inference": inference, "store": store, "total": total}
    return {stage: round(ms, 3) for stage, ms in stages.items()}


def verdict(digit: int, confidence: float, decision: str | None, reason: str | None) -> str:
    """Returns a digit for people, with the confidence and the decision; a rejected one is shown as `?`."""
    why = f"{decision}: {reason}" if reason else f"{decision}"
    return f"?  ({digit} at {confidence:.1%}, {why})" if decision == "reject" else f"{digit}  ({confidence:.1%}, {why})"
