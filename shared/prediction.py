"""The prediction as clients see it: read from its record or from JSON, and written as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from shared.errors import PredictionFailed
from shared.ids import issued_at
from shared.numbers import FoundGrid, FoundNumber, PageReading
from shared.record import State as State
from shared.record import asked, rfc3339, said, seconds_of, state_of, timings_of


@dataclass(slots=True)
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


class Source(Protocol):
    """A source to read predictions again: the HTTP API or Redis."""

    def get(self, id: str, wait: float = 0) -> Prediction:
        """Return the prediction, once it has ended or after `wait` seconds."""

    def cancel(self, id: str) -> None:
        """Cancel or delete a prediction."""


@dataclass(slots=True)
class Prediction:
    """A prediction. Times are Unix seconds of Redis's clock, durations are in ms.

    Not frozen: that would make it take three times as long to make one, a thirtieth of an upload.
    """

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
        return self._page().lines

    def _page(self) -> PageReading:
        return PageReading(tuple(self.numbers or ()), self.grid, self.rotated or 0)

    def wait(self, timeout: float = 30) -> Prediction:
        """Return the prediction once it has succeeded. Raises PredictionFailed; TimeoutError after `timeout` s."""
        return (self if self.state.terminal else asked(self.source).get(self.id, wait=timeout)).succeeded(timeout)

    def succeeded(self, timeout: float) -> Prediction:
        """Return this prediction if it has succeeded. Raises PredictionFailed; TimeoutError if it has not ended."""
        if not self.state.terminal:
            raise TimeoutError(f"prediction {self.id} is still {self.state.value} after {timeout:g} s")
        if self.state is not State.SUCCEEDED:
            error = self.error or {"code": self.state.value, "message": f"The prediction was {self.state.value}."}
            raise PredictionFailed(f"{error['code']}: {error['message']}", prediction=self)
        return self

    def refresh(self) -> Prediction:
        """Read the prediction again."""
        return asked(self.source).get(self.id)

    def cancel(self) -> None:
        """Cancel a waiting prediction, or delete an ended one. Raises StillRunning."""
        asked(self.source).cancel(self.id)

    @classmethod
    def from_json(cls, body: Mapping[str, Any], source: Source | None = None) -> Prediction:
        """Parse the JSON of the API; unknown members are ignored."""
        plain = {name: body.get(name) for name in (
            "id", "filename", "digit", "confidence", "probabilities", "decision", "reason", "model",
            "preprocessing", "batch", "timings_ms", "error", "queue_position",
        )}  # fmt: skip
        times = {name: seconds_of(body.get(name)) for name in ("submitted_at", "started_at", "finished_at")}
        return cls(state=State(body["state"]), warnings=body.get("warnings") or [], attempt=body.get("attempt") or 0,
                   source=source, **plain, **times, **_fields_of(PageReading.from_json(body)))  # type: ignore[arg-type]  # fmt: skip

    @classmethod
    def from_record(cls, id: str, record: Mapping[str, str], queue_position: int | None = None) -> Prediction:
        """Parse the fields of RECORD; a missing one is None."""
        state, found = state_of(record)
        get, batch = record.get, found.get("batch")
        submitted, started, finished = (seconds_of(get(at)) for at in ("created_at", "started_at", "ended_at"))
        finished = finished if state.terminal else None
        attempt = (get("digitq_run") or "").partition(":")[0]
        error = dict(zip(("code", "message"), found["error"], strict=True)) if "error" in found else None
        read = cls(
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
            timings_ms=timings_of(found.get("ms") or (0, 0), submitted, started, finished),
            error=error,
            queue_position=queue_position,
        )
        page = PageReading.from_noted(found)
        return read if page is None else replace(read, **_fields_of(page))

    def to_json(self, root: str = "") -> dict[str, Any]:
        """Return the JSON of the API; its links start with `root`, the sub-path of a proxy."""
        own = f"{root}/v1/predictions/{self.id}"
        position = {} if self.queue_position is None else {"queue_position": self.queue_position}
        page = {} if self.numbers is None else self._page().to_json()
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


def _fields_of(page: PageReading | None) -> dict[str, Any]:
    return {} if page is None else {"numbers": list(page.numbers), "grid": page.grid, "rotated": page.rotated}


def verdict(digit: int | None, confidence: float | None, decision: str | None, reason: str | None) -> str:
    """Format a digit with its confidence and decision; a rejected one as `?`, none as `-`."""
    why = f"{decision}: {reason}" if reason else f"{decision}"
    if digit is None or confidence is None:
        return f"-  ({why})"
    return f"?  ({digit} at {confidence:.1%}, {why})" if decision == "reject" else f"{digit}  ({confidence:.1%}, {why})"
