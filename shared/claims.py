"""A job in a worker's hands, and how it ends: what claim.lua answers and finish.lua expects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from shared.prediction import Outcome


@dataclass(frozen=True, slots=True)
class Claim:
    """One job in a worker's hands. The execution is the fencing token: only who holds it may finish."""

    id: str
    execution: str
    queue: str
    #: True for a picture that may share a batch; False for a chunk, and for a job that RQ itself has to run.
    batchable: bool
    #: RQ's serialized call, perhaps compressed.
    data: bytes
    image: bytes
    attempt: int
    timeout: str
    result_ttl: str
    failure_ttl: str
    #: True for a chunk of a batch: `image` then is the pack.
    chunk: bool = False
    #: Of the request that it came with, for the log; empty where there was none.
    request_id: str = ""
    traceparent: str = ""
    #: When it was claimed, Unix seconds.
    claimed_at: str = ""
    #: When it was submitted, RFC 3339; empty where nobody has noted it.
    submitted_at: str = ""
    #: Why it cannot be run: a key of it holds what it should not. Empty where it can.
    error: str = ""

    def asked(self) -> dict[str, str]:
        """The request that it came with, as fields of the log."""
        return {"request_id": self.request_id, "traceparent": self.traceparent}

    @classmethod
    def from_reply(cls, reply: Sequence[bytes]) -> Claim:
        """Reads one row of claim.lua's answer."""
        id, execution, queue, kind, data, image, attempt, timeout, result_ttl, failure_ttl, *asked = reply
        return cls(id.decode(), execution.decode(), queue.decode(), kind == b"batch", data, image, int(attempt),
                   timeout.decode(), result_ttl.decode(), failure_ttl.decode(), kind == b"chunk",
                   *(text.decode("utf-8", "replace") for text in asked))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Finish:
    """How one claim ended: with an outcome, or as `failed`/`expired` with an error's code and message."""

    claim: Claim
    #: Base64 JSON of the return value, or empty.
    value: str
    #: Base64 of the compressed traceback, as RQ stores it, or empty.
    exception: str
    state: str
    outcome: Outcome | None = None
    error: tuple[str, str] = ("", "")

    def to_args(self, position: int) -> list[Any]:
        """The values that finish.lua expects for one picture."""
        claim, found = self.claim, self.outcome
        rq = [claim.id, claim.execution, claim.queue, claim.result_ttl, claim.failure_ttl, self.value, self.exception]
        record = [""] * 6 if found is None else list(outcome_fields(found).values())
        return [*rq, self.state, *record, *self.error, found.input if found else "", position, claim.claimed_at]


def outcome_fields(found: Outcome) -> dict[str, Any]:
    """What an outcome adds to the record, in the order of finish.lua."""
    return {
        "digit": found.digit,
        "confidence": float(found.confidence),  # NumPy's floats are no text that reads as a number
        "probabilities": as_json(found.probabilities),
        "decision": found.decision,
        "reason": found.reason or "",
        "warnings": as_json(found.warnings),
    }


def as_json(value: Any) -> bytes:
    """What a worker has found, NumPy's numbers included; a number that is none, such as NaN, is null."""
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
