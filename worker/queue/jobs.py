"""What a claimed job means, in RQ's terms: which picture it names, whether it may run, how it ends."""

from __future__ import annotations

import contextlib
import json
import logging
import zlib
from base64 import b64encode
from collections.abc import Callable, Collection, Iterable
from typing import Any

from rq.exceptions import NoSuchJobError
from rq.job import Job
from rq.job_lifecycle import format_exc_info
from rq.queue import Queue
from rq.types import FailureCallbackType, SuccessCallbackType

from shared import keys
from shared.batches import batch_of
from shared.claims import Claim, Finish, as_json
from shared.errors import DigitqError
from shared.prediction import Outcome

log = logging.getLogger("digitq.worker")


class UnreadableJob(DigitqError):
    """The job was deleted after it was claimed, or its fields are not what RQ writes."""

    code, title = "unreadable_job", "The job cannot be read"


class ForbiddenJob(DigitqError):
    """The job names a function that this worker does not run, or cannot be read without pickle."""

    code, title = "forbidden_job", "This worker does not run this job"


def image_id(claim: Claim) -> str | None:
    """The picture that a job names; None for a job that is no plain call of our function, and for what is not JSON."""
    return _argument(claim, keys.JOB_FUNCTION)


def is_chunk(claim: Claim) -> bool:
    """Whether a job is a plain call of our function for the chunk of its own name."""
    return _argument(claim, keys.CHUNK_FUNCTION) == claim.id


def _argument(claim: Claim, wanted: str) -> str | None:
    data = claim.data
    if not data.startswith(b"["):  # RQ reads uncompressed data too, and submit.lua writes it so
        with contextlib.suppress(zlib.error):
            data = zlib.decompress(data)
    try:
        function, instance, args, kwargs = json.loads(data)
        plain = function == wanted and instance is None and kwargs == {} and len(args) == 1
    except (ValueError, TypeError):
        return None
    return args[0] if plain and isinstance(args[0], str) else None


def timeout_seconds(claim: Claim) -> int:
    """Seconds; RQ's default where the job has none."""
    return int(claim.timeout) if claim.timeout.isdigit() else Queue.DEFAULT_TIMEOUT


def finish(claim: Claim, result: Outcome | DigitqError) -> Finish:
    """The end of a claim as finish.lua and RQ's Result want it."""
    if isinstance(result, Outcome):
        return Finish(claim, b64encode(as_json(result.summary())).decode(), "", result)
    trace = format_exc_info((type(result), result, result.__traceback__))
    return Finish(claim, "", b64encode(zlib.compress(trace.encode())).decode(), error=(result.code, str(result)))


def log_ended(ended: Iterable[tuple[Claim, object]]) -> None:
    """A line for each picture, with the ids of its request; what succeeded is for those who debug."""
    for claim, result in ended:
        level = logging.DEBUG if isinstance(result, Outcome) else logging.INFO
        if log.isEnabledFor(level):
            state = "succeeded" if isinstance(result, Outcome) else "failed"
            about = {"attempt": claim.attempt, "state": state, "code": getattr(result, "code", "")}
            log.log(level, "ended", extra=named(claim.id) | about | claim.asked())


def named(id: str) -> dict[str, str]:
    """A job in the fields of the log: the picture that it is, or the batch that it is a chunk of."""
    batch = batch_of(id)
    return {"batch_id": batch, "job_id": id} if batch else {"prediction_id": id}


def guarded(allowed: Collection[str]) -> type[Job]:
    """Returns RQ's Job for a worker with this allow-list: one that does not make the worker do anything else.

    RQ's recovery runs the failure callback of an abandoned job by itself, calls whatever URL is in a job's webhooks,
    and one job that it cannot parse stops it for all: here a callback off the list is none, webhooks are not called,
    and a job that cannot be parsed counts as gone.
    """

    class GuardedJob(Job):
        @property
        def success_callback(self) -> SuccessCallbackType | None:
            return super().success_callback if self._success_callback_name in allowed else None

        @property
        def failure_callback(self) -> FailureCallbackType | None:
            return super().failure_callback if self._failure_callback_name in allowed else None

        @property
        def stopped_callback(self) -> Callable[[Job, Any], Any] | None:
            return super().stopped_callback if self._stopped_callback_name in allowed else None

        def send_webhooks(self, status: Any, *, exc_string: str | None = None) -> None:
            if self.webhooks:  # nobody has checked where they lead; a URL may hold a secret, so it is not logged
                log.warning("webhooks of an RQ job are not called: use callback_url", extra=named(self.id))

        def restore(self, raw_data: Any) -> Any:
            try:
                return super().restore(raw_data)
            except Exception as error:
                raise NoSuchJobError(f"job {self.id} cannot be read: {error}") from error

    return GuardedJob


def check_allowed(job: Job, allowed: Collection[str]) -> None:
    """Raises ForbiddenJob unless the function and every callback are on the allow-list."""
    try:
        callbacks = (job._success_callback_name, job._failure_callback_name, job._stopped_callback_name)
        named = [job.func_name, *(name for name in callbacks if isinstance(name, str) and name)]
    except Exception as error:
        raise ForbiddenJob("The job is not JSON.") from error
    forbidden = [name for name in named if name not in allowed]
    if forbidden:
        raise ForbiddenJob(f"{forbidden[0]} is not on this worker's list of functions.")
