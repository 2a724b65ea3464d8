"""The record of a picture: RQ's job with our fields in its hash, as it is read and as its end is published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any, TypeVar

import orjson

T = TypeVar("T")


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
    records: list[dict[str, str]] = told["ended"]
    for record in records:
        record.setdefault("ended_at", told["ended_at"])
    return records


def theirs(record: Mapping[str, Any], owner: str | None, field: str = "digitq_owner") -> bool:
    """Return True if a record belongs to the owner; None, for direct access to Redis, sees everything."""
    return owner is None or (record.get(field) or "") == owner


# Pictures that came, started or ended in one step of Redis have their times in common.
@lru_cache(maxsize=256)
def rfc3339(seconds: float | None) -> str | None:
    """Format Unix seconds as `2026-01-31T12:00:00.123Z`."""
    if seconds is None:
        return None
    whole, micros = divmod(round(seconds * 1_000_000), 1_000_000)
    return f"{_to_the_second(whole)}.{micros // 1000:03d}Z"


@lru_cache(maxsize=64)
def _to_the_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().removesuffix("+00:00")


@lru_cache(maxsize=256)
def seconds_of(text: str | None) -> float | None:
    """Parse RFC 3339 to Unix seconds; None if the text is empty or missing."""
    return datetime.fromisoformat(text).timestamp() if text else None


def timings_of(
    measured: Sequence[float], submitted: float | None, started: float | None, finished: float | None
) -> dict[str, float] | None:
    """Return the durations of the stages, which add up to the total; None until all have run.

    The worker measures two stages with its own clock; the others are the rest by Redis's clock.
    """
    if submitted is None or started is None or finished is None:
        return None
    preprocess, inference = measured
    queue, total = (started - submitted) * 1000, (finished - submitted) * 1000
    return {
        "queue": round(queue, 3),
        "preprocess": round(preprocess, 3),
        "inference": round(inference, 3),
        "store": round(total - queue - preprocess - inference, 3),
        "total": round(total, 3),
    }


def asked(source: T | None) -> T:
    """Return the client that a prediction or batch comes from. Raises RuntimeError if it is one for asyncio."""
    if source is None:
        raise RuntimeError(
            "With asyncio the client is asked: `await client.result(prediction)`, `client.cancel(id)`, …"
        )
    return source
