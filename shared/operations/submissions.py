"""Submits pictures, one or many in a round trip."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, cast

from shared import keys, redis_scripts
from shared.connections.redis_failures import answered
from shared.connections.script_calls import ScriptCall
from shared.errors import IdempotencyMismatch, QueueFull, RateLimited, RedisUnavailable
from shared.ids import new_id
from shared.keys import Priority
from shared.numbers import Read
from shared.operations.predictions import Predictions
from shared.prediction import Prediction, State
from shared.submission import ANYBODY, Caller, Submission

log = logging.getLogger("digitq.redis")

#: The answer of submit.lua for one picture.
Answer = Sequence[Any]


class Submissions(Predictions):
    """The submission of pictures, which may return the prediction of an earlier one."""

    def submit(
        self,
        image: bytes,
        filename: str = "",
        *,
        priority: Priority = Priority.NORMAL,
        idempotency_key: str = "",
        id: str | None = None,
        caller: Caller = ANYBODY,
        notes: Mapping[str, str] | None = None,
        read: Read = "digit",
    ) -> Prediction:
        """Submit one picture atomically; return the queued prediction, or the first one under the same idempotency key.

        `read` says whether a worker reads one digit or all numbers. `notes` are stored with it: `request_id` and
        `traceparent` for logs, `callback_url` for the webhook.
        Raises QueueFull, RateLimited, IdempotencyMismatch, RedisUnavailable.
        """
        picture = Submission(id or new_id(), image, filename, priority, idempotency_key, notes or {}, caller, read)
        return self.accepted(picture, self.submit_all([picture])[0])

    def submit_all(self, pictures: Sequence[Submission]) -> list[Answer]:
        """Submit pictures in one round trip, each atomically; `accepted` interprets the answers."""
        call = self._submit_call(pictures)
        return cast("list[Answer]", self.run_safely("submit", call.keys, call.args, len(pictures)))

    def submit_call(self, pictures: Sequence[Submission]) -> ScriptCall | None:
        """Return the call that `submit_all` makes; None where that waits for more than its answer.

        Raises RedisUnavailable and RedisMisconfigured as `check_server`.
        """
        if self.settings.replicas_ack or not self.server.known:
            return None
        self.check_server()
        size = sum(len(picture.image) for picture in pictures)
        return self._submit_call(pictures) if self._room.reserve_at_once(size, len(pictures)) else None

    def _submit_call(self, pictures: Sequence[Submission]) -> ScriptCall:
        s = self.settings
        rate, period = self.rate
        args = redis_scripts.arguments(
            [picture.to_row() for picture in pictures], limit=s.queue_max_length, max_bytes=s.queue_max_bytes,
            ttl=s.result_ttl_seconds, func=keys.JOB_FUNCTION, timeout=s.job_timeout_seconds, retries=s.max_attempts - 1,
            rate=rate, period=period,
        )  # fmt: skip
        return ScriptCall(self._scripts["submit"], [keys.queue(name) for name in keys.QUEUES], args)

    def accepted(self, picture: Submission, answer: Answer) -> Prediction:
        """Return the queued prediction, or the first one under its key. Raises as `submit` does."""
        self.check_entered(answer)
        what, first, *rest = answer
        if what == b"mismatch":
            raise IdempotencyMismatch("The idempotency key belongs to another image, or to another `read` of this one")
        if what == b"repeated":
            return self.fetch(first.decode(), picture.caller.owner)
        return Prediction(picture.id, State.QUEUED, picture.filename or None, submitted_at=float(rest[0]))

    def check_entered(self, answer: Answer) -> None:
        """Raise QueueFull, RateLimited or RedisUnavailable if the answer of a submitting script says so."""
        s = self.settings
        if answer[0] == b"full":
            _, waiting, seconds = answer
            raise QueueFull(f"{waiting} pictures are waiting", limit=s.queue_max_length, retry_after_seconds=seconds)
        if answer[0] == b"failed":
            text = answer[1].decode(errors="replace")
            log.error("redis: a picture was not accepted: %s", text)
            raise answered(text) or RedisUnavailable(retry_after_seconds=1)
        if answer[0] == b"heavy":
            _, waiting, seconds = answer
            raise QueueFull(f"{waiting} bytes are waiting", limit=s.queue_max_bytes, retry_after_seconds=seconds)
        if answer[0] == b"limited":
            raise RateLimited(f"At most {s.rate_limit}", limit=self.rate[0], retry_after_seconds=answer[1])
