"""Every command that digitq sends to Redis, in verbs. Nobody else names a key or a script.

Any trouble with Redis is a RedisUnavailable. What a script changes it changes at once: a call whose answer was lost has
done all of its work or none; repeating it is safe (a claim that was lost comes back when its lease ends).
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from shared import keys, redis_scripts
from shared.claims import Claim, Finish
from shared.errors import Expired, IdempotencyMismatch, Lost, NotFound, QueueFull, RedisUnavailable, StillRunning
from shared.ids import issued_at, new_id
from shared.keys import Priority
from shared.prediction import Prediction, State
from shared.settings import Settings

log = logging.getLogger("digitq.redis")

#: Answers by which Redis says that it cannot serve now.
REFUSALS = (
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.ReadOnlyError,
    redis.exceptions.NoPermissionError,
    redis.exceptions.AuthenticationError,
)
#: How far `queue_position` is looked up exactly; beyond, it is the length of the queue.
POSITION_DEPTH = 1000
#: Seconds for which a worker counts as alive after its last heartbeat.
WORKER_TTL_SECONDS = 15


def connect(url: str, *, timeout: float | None = 0.7) -> redis.Redis:
    """A client whose calls end within `timeout` seconds (None: a call may block).

    One repetition at once, on a fresh connection: what a restarted server leaves behind in the pool is no outage.
    """
    retry = Retry(NoBackoff(), 1, supported_errors=(redis.exceptions.ConnectionError,))
    return redis.Redis.from_url(
        url, socket_timeout=timeout, socket_connect_timeout=0.7, retry=retry, health_check_interval=0
    )


@contextmanager
def redis_errors() -> Iterator[None]:
    """Turns whatever redis-py raises into a RedisUnavailable."""
    try:
        yield
    except (redis.RedisError, OSError) as error:
        if isinstance(error, redis.ResponseError) and not isinstance(error, REFUSALS):
            raise  # our own mistake, not Redis's state
        # The cause names addresses: it is for the log, not for clients.
        log.warning("redis: %s", error)
        raise RedisUnavailable(retry_after_seconds=1) from error


class Store:
    """The verbs. `client` must not decode responses: images are bytes."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        self.client = client
        self.settings = settings
        self._scripts = redis_scripts.register(client)

    def _run(self, name: str, keys: Sequence[str] = (), args: Sequence[Any] = ()) -> Any:
        with redis_errors():
            return self._scripts[name](keys=keys, args=args)

    # ------------------------------------------------------------------ the producer's verbs

    def submit(
        self,
        image: bytes,
        filename: str = "",
        *,
        priority: Priority = Priority.NORMAL,
        idempotency_key: str = "",
        id: str | None = None,
    ) -> Prediction:
        """Accepts one picture whole or not at all; returns it as queued, or the first one under the same key.

        Raises QueueFull, IdempotencyMismatch, RedisUnavailable.
        """
        id, s = id or new_id(), self.settings
        others = [keys.queue(name) for name in keys.QUEUES if name != priority.queue]
        fingerprint = hashlib.sha256(image).hexdigest() if idempotency_key else ""
        args = [
            id, priority.queue, image, filename, s.queue_max_length, s.result_ttl_seconds, keys.JOB_FUNCTION,
            s.job_timeout_seconds, s.max_attempts - 1, idempotency_key, fingerprint,
        ]  # fmt: skip
        answer, first, *rest = self._run("submit", [keys.queue(priority.queue), *others], args)
        if answer == b"full":
            raise QueueFull(f"{first} pictures are waiting", limit=s.queue_max_length, retry_after_seconds=5)
        if answer == b"mismatch":
            raise IdempotencyMismatch()
        if answer == b"repeated":
            return self.fetch(first.decode())
        return Prediction(id, State.QUEUED, filename or None, submitted_at=float(rest[0]))

    def fetch(self, id: str) -> Prediction:
        """The prediction as it stands. Raises NotFound, Expired, Lost, RedisUnavailable."""
        reply = self._run("fetch", [], [id, self.settings.result_ttl_seconds, POSITION_DEPTH])
        record = redis_scripts.pairs(reply)
        if record.get("state") == "forgotten":
            raise NotFound()
        if not record:
            raise self._missing(id)
        position = record.pop("queue_position")
        return Prediction.from_hash(id, record, int(position) if position else None)

    def _missing(self, id: str) -> Exception:
        """Why an id has no record: never handed out, too old, or gone with the server's data."""
        issued = issued_at(id)
        if issued is None:
            return NotFound()
        return Expired() if self.time() - issued > self.settings.result_ttl_seconds else Lost()

    def cancel(self, id: str) -> None:
        """Takes a waiting picture back or forgets an ended one. Raises StillRunning and what fetch raises."""
        answer = self._run("cancel", [], [id, self.settings.result_ttl_seconds])
        if answer == b"running":
            raise StillRunning()
        if answer == b"missing":
            self.fetch(id)  # says why

    def recent(self, limit: int, cursor: str | None = None) -> tuple[list[Prediction], str | None]:
        """History, newest first, and the cursor of the next page (None after the last)."""
        with redis_errors():
            entries: Any = self.client.xrevrange(keys.RECENT, f"({cursor}" if cursor else "+", "-", count=limit)
        page = []
        for _, fields in entries:
            try:
                page.append(self.fetch(fields[b"id"].decode()))
            except (NotFound, Expired, Lost):
                continue
        return page, entries[-1][0].decode() if len(entries) == limit else None

    def image(self, id: str) -> bytes | None:
        """The picture as uploaded; None where it is gone."""
        return self._get(keys.image(id))

    def model_input(self, id: str) -> bytes | None:
        """The 784 bytes that the model saw; None before it saw them."""
        return self._get(keys.model_input(id))

    def model_card(self) -> dict[str, Any] | None:
        """The card of the model in service; None if no worker has reported one."""
        card = self._get(keys.MODEL)
        return json.loads(card) if card else None

    def refusal(self) -> str:
        """Why the last worker that had to refuse its model did so; empty if none did lately."""
        return (self._get(keys.REFUSED) or b"").decode()

    def _get(self, key: str) -> bytes | None:
        with redis_errors():
            return cast("bytes | None", self.client.get(key))

    def workers(self) -> list[str]:
        """Names of the workers that are alive; raises RedisUnavailable also where Redis does not accept writes."""
        with redis_errors(), self.client.pipeline(transaction=False) as pipeline:
            pipeline.set(keys.READY, 1, ex=10)
            pipeline.zrangebyscore(keys.WORKERS, self.time(), "+inf")
            return [name.decode() for name in pipeline.execute()[1]]

    def time(self) -> float:
        """Redis's clock, Unix seconds: the one that leases and records go by."""
        with redis_errors():
            seconds, micros = self.client.time()
        return float(seconds) + float(micros) / 1e6

    # ------------------------------------------------------------------ the worker's verbs

    def claim(self, worker: str, queues: Sequence[str], limit: int, nonce: str) -> list[Claim]:
        """Takes up to `limit` jobs from the queues, in that order, under a lease."""
        s = self.settings
        args = [limit, worker, s.lease_seconds, nonce, keys.JOB_FUNCTION, s.result_ttl_seconds, *queues]
        return [Claim.from_reply(row) for row in self._run("claim", [keys.queue(q) for q in queues], args)]

    def renew(self, worker: str, claims: Sequence[Claim], card: str = "") -> int:
        """The heartbeat: the worker lives and keeps what it holds. Returns how many claims are still held."""
        held = [text for claim in claims for text in (claim.queue, claim.id, claim.execution)]
        return int(self._run("renew", [], [worker, self.settings.lease_seconds, WORKER_TTL_SECONDS, card, *held]))

    def finish(
        self, worker: str, finishes: Sequence[Finish], *, model: str, timings_ms: tuple[float, float], seconds: float
    ) -> tuple[list[str], list[str]]:
        """Ends a batch; `timings_ms` are preprocess and inference. Returns ids fenced off, ids with RQ dependents."""
        lease = self.settings.lease_seconds
        head = [worker, min(1.0, lease / 5), self.settings.result_ttl_seconds, seconds, len(finishes), model]
        args = [*head, *timings_ms]
        for position, finish in enumerate(finishes):
            args += finish.to_args(position)
        fenced, dependents = self._run("finish", [], args)
        return [id.decode() for id in fenced], [id.decode() for id in dependents]

    def release(self, worker: str, claims: Sequence[Claim]) -> None:
        """Gives claims back that were never started on, to the front of their queue."""
        held = [text for claim in claims for text in (claim.queue, claim.id, claim.execution)]
        self._run("release", [], [worker, *held])

    def start_record(self, id: str) -> int:
        """Moves a record alone to running, for a picture on RQ's own path. Returns the attempt."""
        return int(self._run("record", [], ["start", id, self.settings.result_ttl_seconds, ""]))

    def end_record(self, id: str, state: str, input: bytes = b"", **fields: Any) -> bool:
        """Moves a record alone to its end; False where it has ended before."""
        flat = [item for pair in fields.items() for item in pair]
        return bool(self._run("record", [], ["end", id, self.settings.result_ttl_seconds, state, input, *flat]))

    def refuse(self, reason: str) -> None:
        """A worker says why its model may not serve, for whoever asks whether anybody is ready."""
        with redis_errors():
            self.client.set(keys.REFUSED, reason, ex=600)

    def forget_workers(self) -> None:
        """Nobody is alive: for whoever has just started the server for itself alone."""
        with redis_errors():
            self.client.delete(keys.WORKERS)

    def leave(self, worker: str) -> None:
        """The worker ends and says so."""
        with redis_errors():
            self.client.zrem(keys.WORKERS, worker)

    def recovery_turn(self, worker: str) -> bool:
        """True for one worker at a time: it looks for expired leases. A turn ends by itself after ten seconds."""
        with redis_errors():
            return bool(self.client.set(keys.RECOVERY, worker, nx=True, ex=10))

    def end_recovery_turn(self) -> None:
        """The next worker may look."""
        with redis_errors():
            self.client.delete(keys.RECOVERY)
