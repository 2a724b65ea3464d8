"""Claimed jobs: the kind of each, its timeout, and how a result is stored."""

from __future__ import annotations

import contextlib
import traceback
import zlib
from base64 import b64encode
from collections.abc import Iterable
from typing import NamedTuple

import orjson
from rq.timeouts import JobTimeoutException

from shared import keys
from shared.claims import Claim, Finish, as_json
from shared.errors import DigitqError, UnknownRead
from shared.numbers import READ_IS, READS, Read, known_read
from shared.prediction import Outcome
from worker.inference.classify import NOT_CLASSIFIED
from worker.queue.rq_compat import DEFAULT_TIMEOUT


class UnreadableJob(DigitqError):
    """The job was deleted after it was claimed, or its fields are not what RQ writes."""

    code, title = "unreadable_job", "The job cannot be read"


class ForbiddenJob(DigitqError):
    """The job names a function that this worker does not run, or cannot be read without pickle."""

    code, title = "forbidden_job", "This worker does not run this job"


class ByKind(NamedTuple):
    """Claims by the kind of job."""

    #: A key has the wrong type.
    damaged: list[Claim]
    #: Pictures of one digit.
    pictures: list[Claim]
    #: Pictures to be read as numbers.
    pages: list[Claim]
    #: Chunks of batches.
    chunks: list[Claim]
    #: Run as RQ runs them: they call another function, or are a picture with callbacks, dependents or the like.
    foreign: list[Claim]


def by_kind(claims: Iterable[Claim]) -> ByKind:
    """Sorts claims by their kind."""
    kinds = ByKind([], [], [], [], [])
    for claim in claims:
        if claim.error:
            kinds.damaged.append(claim)
        elif claim.batchable and (call := call_of(claim, keys.JOB_FUNCTION)):
            (kinds.pictures if call.read == "digit" else kinds.pages).append(claim)
        elif claim.chunk and (call := call_of(claim, keys.CHUNK_FUNCTION)) and call.id == claim.id:
            kinds.chunks.append(claim)
        else:
            kinds.foreign.append(claim)
    return kinds


class Call(NamedTuple):
    """A call of one of our functions: with the id of a picture or a chunk, and how it is read."""

    id: str
    read: Read


def image_id(claim: Claim) -> str | None:
    """Return the id of the picture that a job classifies; None unless it is a plain call of our function."""
    call = call_of(claim, keys.JOB_FUNCTION)
    return call.id if call else None


def call_of(claim: Claim, wanted: str) -> Call | None:
    """Return the arguments of a job that calls this function with one string, and at most `read` as a keyword.

    None for any other, also for an unknown `read`: RQ then makes the call, which fails by name (`read_of`).
    """
    data = claim.data
    if not data.startswith(b"["):  # RQ compresses the call, submit.lua does not
        with contextlib.suppress(zlib.error):
            data = zlib.decompress(data)
    try:
        function, instance, args, kwargs = orjson.loads(data)
        plain = function in (wanted, keys.OTHER_NAMES[wanted]) and instance is None and len(args) == 1
        read = kwargs.pop("read", "digit")
    except (ValueError, TypeError, AttributeError):
        return None
    known = plain and not kwargs and read in READS and isinstance(args[0], str)
    return Call(args[0], read) if known else None


def read_of(read: str) -> Read:
    """Return how a job wants its picture to be read. Raises UnknownRead."""
    known = known_read(read)
    if known is None:
        raise UnknownRead(f"The argument `read` of the job is not known: {READ_IS}")
    return known


def timeout_seconds(claim: Claim) -> int:
    """Return the job's timeout, or RQ's default."""
    return int(claim.timeout) if claim.timeout.isdigit() else DEFAULT_TIMEOUT


def code_and_message(error: Exception) -> tuple[str, str]:
    """Return what a client sees of an error: only a DigitqError speaks for itself."""
    if isinstance(error, DigitqError):
        return error.code, str(error)
    return "timeout" if isinstance(error, JobTimeoutException) else "internal_error", NOT_CLASSIFIED


def finish(claim: Claim, result: Outcome | DigitqError) -> Finish:
    """Return a claim with its result as finish.lua stores it: a return value or a traceback, encoded as RQ does."""
    if isinstance(result, Outcome):
        return Finish(claim, b64encode(as_json(result.summary())).decode(), "", result)
    trace = "".join(traceback.format_exception(result))
    return Finish(claim, "", b64encode(zlib.compress(trace.encode())).decode(), error=code_and_message(result))
