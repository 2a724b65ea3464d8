"""Claims and their ends: the answer of claim.lua, and the arguments of finish.lua."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from shared.prediction import Outcome
from shared.record import said


@dataclass(slots=True)
class Claim:
    """A claimed job. `execution` is the fencing token: only its holder may finish the job.

    Not frozen, as `Finish` and `Outcome`, of which each picture takes one: that would make them take twice as long.
    """

    id: str
    execution: str
    queue: str
    #: True for a picture that may share a batch; False for a chunk, and for a job that RQ itself must run.
    batchable: bool
    #: RQ's serialized call, perhaps compressed.
    data: bytes
    image: bytes
    attempt: int
    timeout: str
    result_ttl: str
    failure_ttl: str
    #: Its idempotency key; empty where there is none.
    key: str = ""
    #: True for a chunk of a batch: `image` then is the pack.
    chunk: bool = False
    #: Notes of the submission as JSON; empty if there are none.
    about: str = ""
    owner: str = ""
    #: When it was submitted, RFC 3339; empty if unknown.
    submitted_at: str = ""
    #: When it was claimed, RFC 3339 and Unix seconds.
    started_at: str = ""
    claimed_at: str = ""
    #: Why it cannot be run: one of its keys is damaged. Empty if it can.
    error: str = ""

    def asked(self) -> dict[str, str]:
        """Return the request of the submission, as fields of the log."""
        about = said(self.about)
        return {name: str(about.get(name, "")) for name in ("request_id", "traceparent")}

    @property
    def traceparent(self) -> str:
        """Return the trace of the submission; empty if there is none."""
        return self.asked()["traceparent"]

    @classmethod
    def from_reply(cls, reply: Sequence[Any]) -> list[Claim]:
        """Parse the answer of claim.lua."""
        if not reply:
            return []
        started_at, claimed_at, *rows = reply
        when = started_at.decode(), claimed_at.decode()
        return [cls._from_row(row, *when) for row in rows]

    @classmethod
    def _from_row(cls, row: Sequence[bytes], started_at: str, claimed_at: str) -> Claim:
        id, execution, queue, kind, data, image, attempt, timeout, result_ttl, failure_ttl, *texts = row
        key, about, owner, submitted_at, error = (text.decode("utf-8", "replace") for text in texts)
        return cls(id.decode(), execution.decode(), queue.decode(), kind == b"batch", data, image, int(attempt),
                   timeout.decode(), result_ttl.decode(), failure_ttl.decode(), key, kind == b"chunk", about, owner,
                   submitted_at, started_at, claimed_at, error)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ran:
    """The properties shared by a batch: versions of model and preprocessing, and their durations (ms)."""

    model: str = ""
    preprocessing: str = ""
    size: int = 1
    preprocess_ms: float = 0.0
    inference_ms: float = 0.0

    def fields(self, position: int) -> dict[str, Any]:
        """Return the fields stored for one of its pictures."""
        ms = [self.preprocess_ms, self.inference_ms]
        return {"model": self.model, "preprocessing": self.preprocessing, "batch": [self.size, position], "ms": ms}


@dataclass(slots=True)
class Finish:
    """The end of a claim: an outcome, or an error's code and message."""

    claim: Claim
    #: Base64 JSON of the return value, or empty.
    value: str
    #: Base64 of the compressed traceback, as RQ stores it, or empty.
    exception: str
    outcome: Outcome | None = None
    error: tuple[str, str] = ("", "")

    def to_row(self, ran: Ran, position: int) -> dict[str, Any]:
        """Return the arguments of finish.lua for one picture."""
        claim = self.claim
        found = note_of(self.outcome or self.error, ran, position)
        status = "failed" if self.exception else "finished"
        told = {"id": claim.id, "status": status, "created_at": claim.submitted_at, "started_at": claim.started_at,
                "digitq_run": f"{claim.attempt}:", "digitq_owner": claim.owner, "digitq_about": claim.about,
                "digitq_found": found.decode()}  # fmt: skip
        return {
            "id": claim.id, "execution": claim.execution, "queue": claim.queue, "result_ttl": claim.result_ttl,
            "failure_ttl": claim.failure_ttl, "claimed_at": claim.claimed_at, "attempt": str(claim.attempt),
            "key": claim.key, "since": claim.submitted_at if claim.about else "", "value": self.value,
            "exception": self.exception, "found": found,
            "input": compressed(self.outcome.input) if self.outcome and self.outcome.input else b"",
            "news": orjson.dumps(told) if claim.batchable else b"",
        }  # fmt: skip


def note_of(found: Outcome | tuple[str, str], ran: Ran, position: int = 0) -> bytes:
    """Return the JSON for `digitq_found`: the outcome, or an error's code and message."""
    noted = {"error": found} if isinstance(found, tuple) else found.noted()
    return as_json(noted | ran.fields(position))


def compressed(pixels: bytes) -> bytes:
    """Compress the 28x28 that the model saw: to a quarter of its size, in 14 us."""
    return zlib.compress(pixels, 1)


def as_json(value: Any) -> bytes:
    """Encode a worker's values as JSON, NumPy's included; NaN and infinities become null."""
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
