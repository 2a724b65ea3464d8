"""Operations of workers on pictures: claim them under a lease, renew it, end them or give them back."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from shared import keys, redis_scripts
from shared.claims import Claim, Finish, Ran, compressed
from shared.connections.connection import redis_errors
from shared.connections.script_calls import ScriptCall, call_scripts
from shared.errors import RedisUnavailable
from shared.operations.script_runner import ScriptRunner

#: Seconds for which a worker counts as alive after its last heartbeat.
WORKER_TTL_SECONDS = 15

#: The answer of finish.lua: the ids that were fenced off, and ids whose dependents RQ has to enqueue.
Ended = tuple[list[str], list[str]]


class Leases(ScriptRunner):
    """Claims and their ends; a picture that RQ itself runs has none, and is started and ended `alone`."""

    def claim(self, worker: str, queues: Sequence[str], limit: int, nonce: str) -> list[Claim]:
        """Claim up to `limit` jobs from the queues, in that order, under a lease."""
        [reply] = self._called(self._claim_call(worker, queues, limit, nonce))
        return Claim.from_reply(_checked(reply))

    def _claim_call(self, worker: str, queues: Sequence[str], limit: int, nonce: str) -> ScriptCall:
        args = redis_scripts.arguments(
            max=limit, worker=worker, lease=self.settings.lease_seconds, nonce=nonce,
            ttl=self.settings.result_ttl_seconds, queues=queues,
        )  # fmt: skip
        return ScriptCall(self._scripts["claim"], [keys.queue(q) for q in queues], args)

    def _called(self, *calls: ScriptCall) -> list[Any]:
        with redis_errors():
            return call_scripts(self.client, calls)

    def renew(self, worker: str, claims: Sequence[Claim], card: str = "") -> int:
        """Send the heartbeat of a worker and renew its leases. Returns the number of claims still held."""
        lease = self.settings.lease_seconds
        return int(self.tell("renew", _held(claims), worker=worker, lease=lease, alive=WORKER_TTL_SECONDS, card=card))

    def finish(
        self, worker: str, finishes: Sequence[Finish], ran: Ran = Ran(), seconds: float = 0  # noqa: B008  # frozen
    ) -> Ended:  # fmt: skip
        """Finish a batch that took `seconds`. Returns the ids that were fenced off, and ids with RQ dependents."""
        [reply] = self._called(self._finish_call(worker, finishes, ran, seconds))
        return _ended(_checked(reply))

    def finish_and_claim(
        self, worker: str, finishes: Sequence[Finish], ran: Ran, seconds: float, queues: Sequence[str], limit: int,
        nonce: str,
    ) -> tuple[Ended, list[Claim] | None]:  # fmt: skip
        """Do what `finish` does, and then what `claim` does, in one round trip.

        The claims are None if the claim alone failed. If the end fails, the claims are released.
        """
        calls = self._finish_call(worker, finishes, ran, seconds), self._claim_call(worker, queues, limit, nonce)
        ended, claimed = self._called(*calls)
        claims = None if isinstance(claimed, Exception) else Claim.from_reply(claimed)
        if isinstance(ended, Exception) and claims:
            with suppress(RedisUnavailable):
                self.release(worker, claims)
        return _ended(_checked(ended)), claims

    def _finish_call(self, worker: str, finishes: Sequence[Finish], ran: Ran, seconds: float) -> ScriptCall:
        args = redis_scripts.arguments(
            [one.to_row(ran, position) for position, one in enumerate(finishes)], worker=worker,
            margin=self.settings.lease_margin(), ttl=self.settings.result_ttl_seconds, seconds=seconds,
        )  # fmt: skip
        return ScriptCall(self._scripts["finish"], [], args)

    def release(self, worker: str, claims: Sequence[Claim]) -> None:
        """Return unstarted claims to the front of their queue."""
        self.tell("release", _held(claims))

    def start_alone(self, id: str) -> int:
        """Record that RQ itself runs a picture. Returns the number of the attempt."""
        return int(self.tell("alone", step="start", id=id, ttl=self.settings.result_ttl_seconds))

    def end_alone(self, id: str, attempt: int, status: str, found: bytes, input: bytes = b"") -> bool:
        """Record the result of a picture that RQ itself runs, and announce its end, before or after RQ writes `status`.

        Returns False if its job is gone, has another status, or has been started again since.
        """
        args = redis_scripts.arguments(
            step="end", id=id, ttl=self.settings.result_ttl_seconds, attempt=attempt, status=status,
            found=found.decode(),
        )  # fmt: skip
        return bool(self.run("alone", [], [*args, compressed(input) if input else b""]))


def _checked(reply: Any) -> Any:
    """Return the answer of a script. Raises as `Store.run` does if it is an error."""
    with redis_errors():
        if isinstance(reply, Exception):
            raise reply
    return reply


def _ended(reply: Sequence[Sequence[bytes]]) -> Ended:
    fenced, dependents = reply
    return [id.decode() for id in fenced], [id.decode() for id in dependents]


def _held(claims: Sequence[Claim]) -> list[dict[str, str]]:
    return [{"id": claim.id, "execution": claim.execution, "queue": claim.queue} for claim in claims]
