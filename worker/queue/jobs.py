"""Claimed jobs: the kind of each, its timeout, and how a result is stored."""

from __future__ import annotations

import contextlib
import json
import traceback
import zlib
from base64 import b64encode
from collections.abc import Iterable

from rq.timeouts import JobTimeoutException

from shared import keys
from shared.claims import Claim, Finish, as_json
from shared.errors import DigitqError
from shared.prediction import Outcome
from worker.inference.classify import NOT_CLASSIFIED
from worker.queue.rq_compat import DEFAULT_TIMEOUT


class UnreadableJob(DigitqError):
    """The job was deleted after it was claimed, or its fields are not what RQ writes."""

    code, title = "unreadable_job", "The job cannot be read"


class ForbiddenJob(DigitqError):
    """The job names a function that this worker does not run, or cannot be read without pickle."""

    code, title = "forbidden_job", "This worker does not run this job"


def by_kind(claims: Iterable[Claim]) -> tuple[list[Claim], list[Claim], list[Claim], list[Claim]]:
    """Sorts claims into damaged jobs, pictures, chunks and foreign jobs.

    A damaged job has a key of the wrong type. A foreign one runs as RQ runs it: it calls another function, or is a
    picture with callbacks, dependents or the like.
    """
    kinds: tuple[list[Claim], list[Claim], list[Claim], list[Claim]] = [], [], [], []
    damaged, pictures, chunks, foreign = kinds
    for claim in claims:
        if claim.error:
            damaged.append(claim)
        elif claim.batchable and image_id(claim):
            pictures.append(claim)
        elif claim.chunk and _argument(claim, keys.CHUNK_FUNCTION) == claim.id:
            chunks.append(claim)
        else:
            foreign.append(claim)
    return kinds


def image_id(claim: Claim) -> str | None:
    """Returns the id of the picture that a job classifies; None unless it is a plain call of our function."""
    return _argument(claim, keys.JOB_FUNCTION)


def _argument(claim: Claim, wanted: str) -> str | None:
    """Returns the argument of a job that calls this function with one string."""
    data = claim.data
    if not data.startswith(b"["):  # RQ compresses the call, submit.lua does not
        with contextlib.suppress(zlib.error):
            data = zlib.decompress(data)
    try:
        function, instance, args, kwargs = json.loads(data)
        plain = function == wanted and instance is None and kwargs == {} and len(args) == 1
    except (ValueError, TypeError):
        return None
    return args[0] if plain and isinstance(args[0], str) else None


def timeout_seconds(claim: Claim) -> int:
    """Returns the job's timeout, or RQ's default."""
    return int(claim.timeout) if claim.timeout.isdigit() else DEFAULT_TIMEOUT


def code_and_message(error: Exception) -> tuple[str, str]:
    """Returns what a client sees of an error: only a DigitqError speaks for itself."""
    if isinstance(error, DigitqError):
        return error.code, str(error)
    return "timeout" if isinstance(error, JobTimeoutException) else "internal_error", NOT_CLASSIFIED


def finish(claim: Claim, result: Outcome | DigitqError) -> Finish:
    """Returns a claim with its result as finish.lua stores it: a return value or a traceback, encoded as RQ does."""
    if isinstance(result, Outcome):
        return Finish(claim, b64encode(as_json(result.summary())).decode(), "", result)
    trace = "".join(traceback.format_exception(result))
    return Finish(claim, "", b64encode(zlib.compress(trace.encode())).decode(), error=code_and_message(result))
