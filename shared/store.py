"""Every command that digitq sends to Redis, in verbs. Nobody else names a key or a script.

Any trouble with Redis is a RedisUnavailable. What a script changes it changes at once: a call whose answer was lost has
done all of its work or none; repeating it is safe (a claim that was lost comes back when its lease ends). Repeating a
call that ended with an error is safe too: what a script had written by then does not count, or upkeep puts it right.
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
from shared.prediction import RECORD, Prediction, State, theirs
from shared.redis_server.room import Memory, Room
from shared.redis_server.server_check import ServerCheck
from shared.settings import Settings
from shared.submission import ANYBODY, Caller, Submission

log = logging.getLogger("digitq.redis")

#: How far `queue_position` is looked up exactly; beyond, it is the length of the queue.
POSITION_DEPTH = 1000
#: Seconds for which a worker counts as alive after its last heartbeat.
WORKER_TTL_SECONDS = 15
#: Open records and batches that one step of upkeep looks at.
LOOKED_AT_ONCE = 100
#: Entries of one of RQ's registries that one step looks at, which takes Redis milliseconds; and seconds for all steps.
TRIMMED_AT_ONCE, TRIM_SECONDS = 200, 1.0
#: Seconds after which a worker's turn to recover ends by itself.
TURN_SECONDS = 3
#: Bytes of a picture that are read at once, to be sent on.
PIECE_BYTES = 64 * 1024

T = TypeVar("T")
#: submit.lua's for one picture.
Answer = Sequence[Any]
#: fetch.lua's for one id.
Record = list[bytes | None]


@dataclass(frozen=True, slots=True)
class DueWebhook:
    """A prediction whose callback is due, and the how manieth try this is to tell its how manieth end."""

    id: str
    tries: int
    end: int
    url: str
    #: Whose calls count together: `key:` and the owner, or `host:` and the receiver where nobody has a key.
    party: str
    record: dict[str, str]


class Store:
    """The verbs. `client` must not decode responses: images are bytes."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        self.client = client
        self.settings = settings
        self._scripts = redis_scripts.register(client)
        self._room = Room(self.memory, lambda **args: self.tell("evict", **args), settings.result_ttl_seconds)
        #: What is wrong with the server, now.
        self.server = ServerCheck(client, settings)
        #: Whether nothing is accepted that the server would lose; otherwise it is only logged.
        self.refuses_unsafe = False
        #: Pictures that one client may hand in, in so many seconds; (0, 0): as many as it likes.
        self.rate = settings.rate()

    def run_safely(self, name: str, on: Sequence[str], args: Sequence[Any], pictures: int = 0) -> Any:
        """`run`, and only then done when as many replicas have all of it as the settings ask for.

        Where memory is nearly full, waits and makes room first for what is in the arguments and for so many pictures.
        Raises MemoryFull; RedisUnavailable also if the replicas have it not in time: it may have been done, but nobody
        has our word for it.
        """
        self.check_server()
        size = sum(len(arg) for arg in args if isinstance(arg, bytes))
        self._room.reserve(size, pictures)
        return self.with_room(lambda: self._run_acknowledged(name, on, args), size)

    def check_server(self) -> None:
        """Logs what is wrong with the server. Raises RedisUnavailable; RedisMisconfigured for one that would lose it.

        The latter only where this store refuses such servers.
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
        """Calls one of `scripts/`, whose head says what it wants and answers."""
        with redis_errors():
            return self._scripts[name](keys=keys, args=args)

    def tell(self, name: str, rows: Sequence[Mapping[str, Any]] = (), /, **named: Any) -> Any:
        """`run` for a script without keys, with its arguments by name."""
        return self.run(name, [], redis_scripts.arguments(rows, **named))

    # ------------------------------------------------------------------ memory

    def with_room(self, call: Callable[[], T], size: int = 0) -> T:
        """What the call returns; one that a full memory refuses is made again once there is room for its `size` bytes.

        Raises MemoryFull where nothing can be deleted, and what the call raises. The call must do all or nothing.
        """
        try:
            return call()
        except MemoryFull:
            if not self.make_room(size):
                raise
            return call()

    def make_room(self, refused_bytes: int | None = None) -> int:
        """Where memory is nearly full, deletes what has ended, the oldest first. Returns how many were deleted.

        With `refused_bytes` there is to be room for so many more, which Redis has refused. Predictions that ended
        within the last seconds stay, and all that has not ended. Raises RedisUnavailable.
        """
        return self._room.make(refused_bytes)

    def reserve(self, size: int) -> None:
        """Waits and makes room for so many bytes where memory is nearly full. Raises MemoryFull."""
        self._room.reserve(size)

    def memory(self) -> Memory:
        """What Redis has used of its memory, may use, and will need for what waits."""
        with redis_errors(), self.client.pipeline(transaction=False) as pipeline:
            pipeline.info("memory")
            for queue in keys.QUEUES:
                pipeline.llen(keys.queue(queue))
                pipeline.zcard(keys.running(queue))  # in hand
            info, *lengths = pipeline.execute()
        # Buffers for replicas and the log do not count, as they do not when Redis refuses to write.
        used = int(info["used_memory"]) - int(info.get("mem_not_counted_for_evict", 0))
        return Memory(used, int(info.get("maxmemory", 0)), sum(lengths))

    # ------------------------------------------------------------------ the producer's verbs

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
    ) -> Prediction:
        """Accepts one picture whole or not at all; returns it as queued, or the first one under the same key.

        `notes` are kept with it: `request_id` and `traceparent` for logs, `callback_url` to call in the end.
        Raises QueueFull, RateLimited, IdempotencyMismatch, RedisUnavailable.
        """
        picture = Submission(id or new_id(), image, filename, priority, idempotency_key, notes or {}, caller)
        return self.accepted(picture, self.submit_all([picture])[0])

    def submit_all(self, pictures: Sequence[Submission]) -> list[Answer]:
        """Hands in pictures, whole or not at all, in one round trip; `accepted` tells what became of each."""
        s = self.settings
        rate, period = self.rate
        args = redis_scripts.arguments(
            [picture.to_row() for picture in pictures], limit=s.queue_max_length, max_bytes=s.queue_max_bytes,
            ttl=s.result_ttl_seconds, func=keys.JOB_FUNCTION, timeout=s.job_timeout_seconds, retries=s.max_attempts - 1,
            rate=rate, period=period,
        )  # fmt: skip
        queues = [keys.queue(name) for name in keys.QUEUES]
        return cast("list[Answer]", self.run_safely("submit", queues, args, len(pictures)))

    def accepted(self, picture: Submission, answer: Answer) -> Prediction:
        """What became of a picture: queued, or the first one under its key. Raises as `submit` does."""
        self.check_entered(answer)
        what, first, *rest = answer
        if what == b"mismatch":
            raise IdempotencyMismatch()
        if what == b"repeated":
            return self.fetch(first.decode(), picture.caller.owner)
        return Prediction(picture.id, State.QUEUED, picture.filename or None, submitted_at=float(rest[0]))

    def check_entered(self, answer: Answer) -> None:
        """Raises QueueFull, RateLimited or RedisUnavailable if a script that accepts something has answered so."""
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
        """The prediction as it stands; with an owner only if it is theirs.

        Raises NotFound, Expired, Lost, RedisUnavailable.
        """
        return self.found(id, self.fetch_all([id])[0], owner)

    def fetch_all(self, ids: Sequence[str]) -> list[Record]:
        """The records as they stand, in one round trip; `found` tells what each says."""
        return cast("list[Record]", self.tell("fetch", ids=ids, depth=POSITION_DEPTH, fields=RECORD))

    def found(self, id: str, reply: Record, owner: str | None = None) -> Prediction:
        """The prediction in a record. Raises as `fetch` does, and asks Redis only where there is none."""
        if not reply:
            raise self.missing(id)
        *values, position = reply
        record = as_record(values)
        if record["status"] == "forgotten" or not theirs(record, owner):
            raise NotFound()
        return Prediction.from_record(id, record, int(position) if position else None)

    def missing(self, id: str, what: str = "prediction") -> Exception:
        """Why an id has no record: never handed out, too old, deleted to make room, or gone with the server's data."""
        issued = issued_at(id)
        if issued is None:
            return NotFound(f"There is no such {what}")
        if self.time() - issued > self.settings.result_ttl_seconds:
            return Expired(f"The {what} has expired")
        if issued <= float(self.get(keys.EVICTED) or 0):
            return Expired(f"The {what} was deleted to make room for new ones")
        return Lost(f"The {what} was lost with the server's data")

    def cancel(self, id: str, owner: str | None = None) -> None:
        """Takes a waiting picture back or forgets an ended one. Raises StillRunning and what fetch raises."""
        if owner is not None:
            self.fetch(id, owner)
        answer = self.tell("cancel", id=id, ttl=self.settings.result_ttl_seconds)
        if answer == b"running":
            raise StillRunning()
        if answer == b"missing":
            self.fetch(id)  # says why

    def recent(self, limit: int, cursor: str | None = None, owner: str = "") -> tuple[list[Prediction], str | None]:
        """History of an owner, newest first, and the cursor of the next page (None after the last).

        A cursor is when the last one of a page came (Unix us), and how many of that time have been seen.
        """
        last, _, seen = (cursor or "+inf-0").rpartition("-")
        with redis_errors():
            entries: Any = self.client.zrevrangebyscore(keys.recent(owner), last, "-inf", int(seen), limit, True)
        ids, page = [id.decode() for id, _ in entries], []
        for id, reply in zip(ids, self.fetch_all(ids) if ids else [], strict=True):
            if reply:
                with suppress(NotFound):  # forgotten
                    page.append(self.found(id, reply))
        if len(entries) < limit:
            return page, None
        times = [int(score) for _, score in entries]
        seen_before = int(seen) if str(times[-1]) == last else 0
        return page, f"{times[-1]}-{seen_before + times.count(times[-1])}"

    def image(self, id: str) -> bytes | None:
        """The picture as uploaded; None where it is gone."""
        return self.get(keys.image(id))

    def image_pieces(self, id: str) -> tuple[int, Iterator[bytes]]:
        """The picture as uploaded, piece by piece, and how many bytes it has; 0 where it is gone.

        Each piece is read when it is asked for. Raises Expired where the picture goes meanwhile.
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
        """The 784 bytes that the model saw; None before it saw them."""
        with redis_errors():
            pixels = cast("bytes | None", self.client.get(keys.model_input(id)))
        return zlib.decompress(pixels) if pixels else None

    def model_card(self) -> dict[str, Any] | None:
        """The card of the model in service; None if no worker has reported one."""
        card = self.get(keys.MODEL)
        return json.loads(card) if card else None

    def refusal(self) -> str:
        """Why the last worker that had to refuse its model did so; empty if none did lately."""
        return (self.get(keys.REFUSED) or b"").decode()

    def get(self, key: str) -> bytes | None:
        """The bytes under a key."""
        with redis_errors():
            return cast("bytes | None", self.client.get(key))

    def due_webhook(self, lease_seconds: float, most: int, busy: Iterable[str] = ()) -> DueWebhook | None:
        """Takes a callback that is due, for so many seconds, of a party that is not busy; None if there is none.

        Given up after `most` tries.
        """
        reply = self.tell("webhooks", step="take", lease=lease_seconds, most=most, busy=list(busy), fields=RECORD)
        if not reply:
            return None
        id, tries, end, url, party, *values = reply
        return DueWebhook(id.decode(), int(tries), int(end), url.decode(), party.decode(), as_record(values))

    def end_webhook(self, due: DueWebhook, outcome: str, delay_seconds: float | None = None) -> None:
        """Notes what came of a try; with a delay there will be another one."""
        delay = {} if delay_seconds is None else {"delay": delay_seconds}
        self.tell("webhooks", step="end", id=due.id, outcome=outcome, **{"try": due.tries}, **delay)

    def workers(self) -> list[str]:
        """Names of the workers that are alive; raises RedisUnavailable also where Redis does not accept writes."""
        return self.with_room(self._workers)

    def _workers(self) -> list[str]:
        with redis_errors(), self.client.pipeline(transaction=False) as pipeline:
            pipeline.set(keys.READY, 1, ex=10)
            pipeline.zrangebyscore(keys.WORKERS, self.time(), "+inf")
            return [name.decode() for name in pipeline.execute()[1]]

    def load(self) -> Load:
        """How busy queues and workers are: one round trip, however much waits."""
        return Load.from_reply(self.tell("load", queues=keys.QUEUES))

    def time(self) -> float:
        """Redis's clock, Unix seconds: the one that leases and records go by."""
        with redis_errors():
            seconds, micros = self.client.time()
        return float(seconds) + float(micros) / 1e6

    # ------------------------------------------------------------------ the worker's verbs

    def claim(self, worker: str, queues: Sequence[str], limit: int, nonce: str) -> list[Claim]:
        """Takes up to `limit` jobs from the queues, in that order, under a lease."""
        args = redis_scripts.arguments(
            max=limit, worker=worker, lease=self.settings.lease_seconds, nonce=nonce, func=keys.JOB_FUNCTION,
            chunk_func=keys.CHUNK_FUNCTION, ttl=self.settings.result_ttl_seconds, queues=queues,
        )  # fmt: skip
        return Claim.from_reply(self.run("claim", [keys.queue(q) for q in queues], args))

    def renew(self, worker: str, claims: Sequence[Claim], card: str = "") -> int:
        """The heartbeat: the worker lives and keeps what it holds. Returns how many claims are still held."""
        lease = self.settings.lease_seconds
        return int(self.tell("renew", _held(claims), worker=worker, lease=lease, alive=WORKER_TTL_SECONDS, card=card))

    def finish(
        self, worker: str, finishes: Sequence[Finish], ran: Ran = Ran(), seconds: float = 0  # noqa: B008  # frozen
    ) -> tuple[list[str], list[str]]:  # fmt: skip
        """Ends a batch that took so many seconds. Returns ids that were fenced off, ids with RQ dependents."""
        fenced, dependents = self.tell(
            "finish", [one.to_row(ran, position) for position, one in enumerate(finishes)], worker=worker,
            margin=min(1.0, self.settings.lease_seconds / 5), ttl=self.settings.result_ttl_seconds, seconds=seconds,
        )  # fmt: skip
        return [id.decode() for id in fenced], [id.decode() for id in dependents]

    def release(self, worker: str, claims: Sequence[Claim]) -> None:
        """Gives claims back that were never started on, to the front of their queue."""
        self.tell("release", _held(claims))

    def start_alone(self, id: str) -> int:
        """Notes that RQ runs a picture on its own path. Returns the attempt."""
        return int(self.tell("alone", step="start", id=id, ttl=self.settings.result_ttl_seconds))

    def end_alone(self, id: str, status: str, found: bytes, input: bytes = b"") -> bool:
        """Notes what was found in such a picture, and tells its end, before or after RQ writes this status.

        False where its job is gone, or has ended otherwise.
        """
        args = redis_scripts.arguments(
            step="end", id=id, ttl=self.settings.result_ttl_seconds, status=status, found=found.decode()
        )
        return bool(self.run("alone", [], [*args, compressed(input) if input else b""]))

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

    def sort_out_leases(self, queues: Sequence[str]) -> int:
        """Drops leases that ran out and stand for no job in hand. Returns how many jobs went back to their queue."""
        return int(self.tell("leases", queues=queues))

    def sweep(self, age_seconds: float) -> tuple[int, int]:
        """Looks after what is open and was not looked at for so long, a bounded number of pictures and batches.

        Returns how many it has looked at, and how many of them have ended or gone back to their queue.
        """
        return self._look_after(most=LOOKED_AT_ONCE, age=age_seconds)

    def look_after(self, ids: Sequence[str]) -> None:
        """The same for these: where RQ has ended one, its end is told."""
        self._look_after(ids=ids)

    def _look_after(self, **which: Any) -> tuple[int, int]:
        looked, changed = self.tell("sweep", ttl=self.settings.result_ttl_seconds, queues=keys.QUEUES, **which)
        return int(looked), int(changed)

    def trim_registries(self, queues: Sequence[str]) -> int:
        """Takes what is older than the TTL out of RQ's registries of cancelled and of deferred jobs.

        Returns how many entries have left. A job without a TTL of its own, which nothing will ever run, goes with its
        entry.
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
        """True for one worker at a time: it looks for expired leases. A turn ends by itself after three seconds."""
        return bool(self.tell("turn", step="take", worker=worker, seconds=TURN_SECONDS))

    def end_recovery_turn(self, worker: str) -> None:
        """The next worker may look, if the turn is still this one's."""
        self.tell("turn", step="end", worker=worker)


def as_record(values: Sequence[bytes | None]) -> dict[str, str]:
    """The fields of RECORD that are there, as text."""
    return {
        name: text.decode("utf-8", "replace") for name, text in zip(RECORD, values, strict=True) if text is not None
    }


def _held(claims: Sequence[Claim]) -> list[dict[str, str]]:
    return [{"id": claim.id, "execution": claim.execution, "queue": claim.queue} for claim in claims]
