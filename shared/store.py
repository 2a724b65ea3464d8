"""The store: every operation of digitq on Redis. No other module names a key or a script.

All failures of Redis are RedisUnavailable. Each script is atomic, so a call whose response was lost has done all of its
work or none, and can be repeated (a lost claim is recovered when its lease expires). A call that failed can be repeated
too: a partial write of a failed script does not count, or the workers repair it.
"""

from __future__ import annotations

import json
import logging
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import redis

from shared import keys, redis_scripts
from shared.claims import Claim, Finish, Ran, compressed
from shared.connections.acks import acknowledged
from shared.connections.connection import connect as connect
from shared.connections.connection import redis_errors
from shared.connections.redis_failures import answered
from shared.connections.script_calls import ScriptCall, call_scripts
from shared.errors import (
    Expired,
    IdempotencyMismatch,
    Lost,
    MemoryFull,
    NotFound,
    QueueFull,
    RateLimited,
    RedisUnavailable,
    StillRunning,
)
from shared.ids import issued_at, new_id
from shared.keys import Priority
from shared.load import Load
from shared.numbers import Read
from shared.prediction import Prediction, State
from shared.record import RECORD, theirs
from shared.redis_server.room import Memory, Room
from shared.redis_server.server_check import ServerCheck
from shared.settings import Settings
from shared.submission import ANYBODY, Caller, Submission

log = logging.getLogger("digitq.redis")

#: Positions up to this are exact; beyond, `queue_position` is the length of the queue.
POSITION_DEPTH = 1000
#: Seconds for which a worker counts as alive after its last heartbeat.
WORKER_TTL_SECONDS = 15
#: Open records and batches checked in one step of maintenance.
LOOKED_AT_ONCE = 100
#: Entries of an RQ registry trimmed in one step, which takes Redis milliseconds; and seconds for all steps.
TRIMMED_AT_ONCE, TRIM_SECONDS = 200, 1.0
#: Seconds after which a worker's recovery turn expires.
TURN_SECONDS = 3
#: Bytes of a picture read at once, for streaming.
PIECE_BYTES = 64 * 1024

T = TypeVar("T")
#: The answer of submit.lua for one picture.
Answer = Sequence[Any]
#: The answer of fetch.lua for one id.
Record = list[bytes | None]
#: The answer of finish.lua: the ids that were fenced off, and ids whose dependents RQ has to enqueue.
Ended = tuple[list[str], list[str]]


@dataclass(frozen=True, slots=True)
class DueWebhook:
    """A webhook delivery that is due, with the numbers of its attempt and of the prediction's end."""

    id: str
    tries: int
    end: int
    url: str
    #: Who shares a limit of concurrent calls: `key:` and the owner, or without keys `host:` and the receiver.
    party: str
    record: dict[str, str]


class Store:
    """The operations. `client` must not decode responses: images are bytes."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        self.client = client
        self.settings = settings
        self._scripts = redis_scripts.register(client)
        self._room = Room(self.memory, lambda **args: self.tell("evict", **args), settings.result_ttl_seconds)
        #: Current problems of the server's configuration.
        self.server = ServerCheck(client, settings)
        #: Whether pictures are refused that the server might lose; otherwise it is only logged.
        self.refuses_unsafe = False
        #: Rate limit of a client: pictures, and seconds; (0, 0) for none.
        self.rate = settings.rate()

    def run_safely(self, name: str, on: Sequence[str], args: Sequence[Any], pictures: int = 0) -> Any:
        """Run a script, and return once enough replicas have acknowledged its writes.

        If memory is nearly full, first waits and evicts to make room for the arguments and for `pictures`. Raises
        MemoryFull, and RedisUnavailable also if the replicas are too slow: the writes may then exist all the same.
        """
        self.check_server()
        size = sum(len(arg) for arg in args if isinstance(arg, bytes))
        self._room.reserve(size, pictures)
        return self.with_room(lambda: self._run_acknowledged(name, on, args), size)

    def check_server(self) -> None:
        """Log problems of the server. Raises RedisUnavailable, and RedisMisconfigured if pictures might be lost.

        The latter only if this store refuses such servers.
        """
        if self.refuses_unsafe:
            self.server.require()
        else:
            self.server.findings()

    def _run_acknowledged(self, name: str, on: Sequence[str], args: Sequence[Any]) -> Any:
        wanted = self.settings.replicas_ack
        if not wanted:
            return self.run(name, on, args)
        return acknowledged(self.client, lambda pipe: self._scripts[name](keys=on, args=args, client=pipe), wanted)

    def run(self, name: str, keys: Sequence[str] = (), args: Sequence[Any] = ()) -> Any:
        """Call one of `scripts/`; its header describes arguments and answer."""
        with redis_errors():
            return self._scripts[name](keys=keys, args=args)

    def tell(self, name: str, rows: Sequence[Mapping[str, Any]] = (), /, **named: Any) -> Any:
        """Call a script without keys, with arguments by name."""
        return self.run(name, [], redis_scripts.arguments(rows, **named))

    # ------------------------------------------------------------------ memory

    def with_room(self, call: Callable[[], T], size: int = 0) -> T:
        """Return the result of a call, repeated after an eviction if a full memory refuses it.

        The call must be atomic, and needs `size` bytes. Raises MemoryFull if nothing can be evicted, and as the call.
        """
        try:
            return call()
        except MemoryFull:
            if not self.make_room(size):
                raise
            return call()

    def make_room(self, refused_bytes: int | None = None) -> int:
        """Evict the oldest finished predictions if memory is nearly full; return their number.

        `refused_bytes` are needed besides, because Redis has refused them. Unfinished predictions, and those finished
        in the last seconds, are kept. Raises RedisUnavailable.
        """
        return self._room.make(refused_bytes)

    def reserve(self, size: int) -> None:
        """Wait and make room for `size` bytes if memory is nearly full. Raises MemoryFull."""
        self._room.reserve(size)

    def memory(self) -> Memory:
        """Return the memory used by Redis, its limit, and the memory reserved for queued pictures."""
        with redis_errors(), self.client.pipeline(transaction=False) as pipeline:
            pipeline.info("memory")
            for queue in keys.QUEUES:
                pipeline.llen(keys.queue(queue))
                pipeline.zcard(keys.running(queue))  # claimed
            info, *lengths = pipeline.execute()
        # Buffers for replicas and the log do not count towards maxmemory.
        used = int(info["used_memory"]) - int(info.get("mem_not_counted_for_evict", 0))
        return Memory(used, int(info.get("maxmemory", 0)), sum(lengths))

    # ------------------------------------------------------------------ operations of the producer

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

    def fetch(self, id: str, owner: str | None = None) -> Prediction:
        """Return a prediction; with an owner only if it is theirs.

        Raises NotFound, Expired, Lost, RedisUnavailable.
        """
        return self.found(id, self.fetch_all([id])[0], owner)

    def fetch_all(self, ids: Sequence[str], fields: Sequence[str] = RECORD) -> list[Record]:
        """Read records in one round trip; `found` interprets them. Of other fields than RECORD the values are returned.

        Only a whole record tells how many are ahead of it in the queue, which takes the longest to read.
        """
        call = self.fetch_call(ids, fields)
        return cast("list[Record]", self.run("fetch", call.keys, call.args))

    def fetch_call(self, ids: Sequence[str], fields: Sequence[str] = RECORD) -> ScriptCall:
        """Return the call that `fetch_all` makes."""
        depth = POSITION_DEPTH if fields is RECORD else 1
        return ScriptCall(self._scripts["fetch"], [], redis_scripts.arguments(ids=ids, depth=depth, fields=fields))

    def found(self, id: str, reply: Record, owner: str | None = None) -> Prediction:
        """Return the prediction of a record. Raises as `fetch` does, and asks Redis only if the record is missing."""
        if not reply:
            raise self.missing(id)
        *values, position = reply
        record = as_record(values)
        if record["status"] == "forgotten" or not theirs(record, owner):
            raise NotFound()
        return Prediction.from_record(id, record, int(position) if position else None)

    def missing(self, id: str, what: str = "prediction") -> Exception:
        """Return the error for an id without a record: never issued, of another kind, expired, evicted or lost."""
        issued = issued_at(id)
        if issued is None or self._is_other(id, what):
            return NotFound(f"There is no such {what}")
        if self.time() - issued > self.settings.result_ttl_seconds:
            return Expired(f"The {what} has expired")
        if issued <= float(self.get(keys.EVICTED) or 0):
            return Expired(f"The {what} was deleted to make room for new ones")
        return Lost(f"The {what} was lost with the server's data")

    def _is_other(self, id: str, what: str) -> bool:
        """Tell whether the id of a missing prediction is that of a batch, or the reverse, also of a deleted one."""
        others = (keys.job(id), keys.gone(id)) if what == "batch" else (keys.batch(id),)
        with redis_errors():
            return bool(self.client.exists(*others))

    def cancel(self, id: str, owner: str | None = None) -> None:
        """Cancel a queued prediction or delete a finished one. Raises StillRunning, and as `fetch`."""
        if owner is not None:
            self.fetch(id, owner)
        answer = self.tell("cancel", id=id, ttl=self.settings.result_ttl_seconds)
        if answer == b"running":
            raise StillRunning()
        if answer == b"missing":
            self.fetch(id)  # raises the reason

    def recent(self, limit: int, cursor: str | None = None, owner: str = "") -> tuple[list[Prediction], str | None]:
        """Return a page of an owner's history, newest first, and the cursor of the next page (None after the last).

        A cursor holds the time of the last entry of a page (Unix us), and how many entries of that time were returned.
        """
        ids, following = self.page_of(keys.recent(owner), limit, cursor)
        page = []
        for id, reply in zip(ids, self.fetch_all(ids) if ids else [], strict=True):
            if reply:
                with suppress(NotFound):  # deleted
                    page.append(self.found(id, reply))
        return page, following

    def page_of(self, history: str, limit: int, cursor: str | None = None) -> tuple[list[str], str | None]:
        """Return a page of the ids in the history under a key, newest first, and the cursor of the next page."""
        last, _, seen = (cursor or "+inf-0").rpartition("-")
        with redis_errors():
            entries: Any = self.client.zrevrangebyscore(history, last, "-inf", int(seen), limit, True)
        ids = [id.decode() for id, _ in entries]
        if len(entries) < limit:
            return ids, None
        times = [int(score) for _, score in entries]
        seen_before = int(seen) if str(times[-1]) == last else 0
        return ids, f"{times[-1]}-{seen_before + times.count(times[-1])}"

    def image(self, id: str) -> bytes | None:
        """Return the picture as uploaded; None if it is gone."""
        return self.get(keys.image(id))

    def image_pieces(self, id: str) -> tuple[int, Iterator[bytes]]:
        """Return the size of a picture (0 if it is gone), and its bytes as an iterator of pieces.

        Each piece is read on demand. Raises Expired if the picture is deleted meanwhile.
        """
        with redis_errors():
            size = self.client.strlen(keys.image(id))
        return size, (self._piece(id, start) for start in range(0, size, PIECE_BYTES))

    def _piece(self, id: str, start: int) -> bytes:
        with redis_errors():
            piece = cast(bytes, self.client.getrange(keys.image(id), start, start + PIECE_BYTES - 1))
        if not piece:
            raise Expired("The picture has expired")
        return piece

    def model_input(self, id: str) -> bytes | None:
        """Return the 784 bytes that the model saw; None if it has not run."""
        with redis_errors():
            pixels = cast("bytes | None", self.client.get(keys.model_input(id)))
        return zlib.decompress(pixels) if pixels else None

    def model_card(self) -> dict[str, Any] | None:
        """Return the card of the model in service; None if no worker has reported one."""
        card = self.get(keys.MODEL)
        return json.loads(card) if card else None

    def refusal(self) -> str:
        """Return why a worker recently refused its model; empty if none did."""
        return (self.get(keys.REFUSED) or b"").decode()

    def get(self, key: str) -> bytes | None:
        """Return the bytes of a key."""
        with redis_errors():
            return cast("bytes | None", self.client.get(key))

    def due_webhook(self, lease_seconds: float, most: int, busy: Iterable[str] = ()) -> DueWebhook | None:
        """Lease a due webhook delivery of a party that is not busy for `lease_seconds`; None if there is none.

        A delivery is given up after `most` attempts.
        """
        reply = self.tell("webhooks", step="take", lease=lease_seconds, most=most, busy=list(busy), fields=RECORD)
        if not reply:
            return None
        id, tries, end, url, party, *values = reply
        return DueWebhook(id.decode(), int(tries), int(end), url.decode(), party.decode(), as_record(values))

    def end_webhook(self, due: DueWebhook, outcome: str, delay_seconds: float | None = None) -> None:
        """Record the outcome of an attempt; with a delay, schedule another one."""
        delay = {} if delay_seconds is None else {"delay": delay_seconds}
        self.tell("webhooks", step="end", id=due.id, outcome=outcome, **{"try": due.tries}, **delay)

    def workers(self) -> list[str]:
        """Return the names of live workers. Raises RedisUnavailable also if Redis does not accept writes."""
        return self.with_room(self._workers)

    def _workers(self) -> list[str]:
        with redis_errors(), self.client.pipeline(transaction=False) as pipeline:
            pipeline.set(keys.READY, 1, ex=10)
            pipeline.zrangebyscore(keys.WORKERS, self.time(), "+inf")
            return [name.decode() for name in pipeline.execute()[1]]

    def load(self) -> Load:
        """Read the load of queues and workers in one round trip, in constant time."""
        return Load.from_reply(self.tell("load", queues=keys.QUEUES))

    def time(self) -> float:
        """Return Redis's clock in Unix seconds, which leases and records use."""
        with redis_errors():
            seconds, micros = self.client.time()
        return float(seconds) + float(micros) / 1e6

    # ------------------------------------------------------------------ operations of the worker

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

    def refuse(self, reason: str) -> None:
        """Record why a worker's model may not serve, for /readyz."""
        with redis_errors():
            self.client.set(keys.REFUSED, reason, ex=600)

    def forget_workers(self) -> None:
        """Forget all workers, after the start of a private server."""
        with redis_errors():
            self.client.delete(keys.WORKERS)

    def leave(self, worker: str) -> None:
        """Remove a worker that ends."""
        with redis_errors():
            self.client.zrem(keys.WORKERS, worker)

    def sort_out_leases(self, queues: Sequence[str]) -> int:
        """Drop expired leases without a running job. Returns the number of jobs returned to their queue."""
        return int(self.tell("leases", queues=queues))

    def sweep(self, age_seconds: float) -> tuple[int, int]:
        """Check open pictures and batches that were not checked for `age` seconds, a bounded number.

        Returns the number checked, and the number that have ended or were requeued.
        """
        return self._look_after(most=LOOKED_AT_ONCE, age=age_seconds)

    def look_after(self, ids: Sequence[str]) -> None:
        """Check these ids: announce the end of those that RQ has ended."""
        self._look_after(ids=ids)

    def _look_after(self, **which: Any) -> tuple[int, int]:
        looked, changed = self.tell("sweep", ttl=self.settings.result_ttl_seconds, queues=keys.QUEUES, **which)
        return int(looked), int(changed)

    def trim_registries(self, queues: Sequence[str]) -> int:
        """Remove entries older than the TTL from RQ's registries of cancelled and deferred jobs.

        Returns the number removed. A job without a TTL, which will never run, is deleted with its entry.
        """
        gone, end = 0, time.monotonic() + TRIM_SECONDS
        while True:
            left = int(
                self.tell("registries", ttl=self.settings.result_ttl_seconds, most=TRIMMED_AT_ONCE, queues=queues)
            )
            gone += left
            if left < TRIMMED_AT_ONCE or time.monotonic() > end:
                return gone

    def recovery_turn(self, worker: str) -> bool:
        """Return True for one worker at a time, to recover expired leases. A turn expires after three seconds."""
        return bool(self.tell("turn", step="take", worker=worker, seconds=TURN_SECONDS))

    def end_recovery_turn(self, worker: str) -> None:
        """End the recovery turn, if it is still this worker's."""
        self.tell("turn", step="end", worker=worker)


def as_record(values: Sequence[bytes | None]) -> dict[str, str]:
    """Return the existing fields of RECORD as text."""
    return {
        name: text.decode("utf-8", "replace") for name, text in zip(RECORD, values, strict=True) if text is not None
    }


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
