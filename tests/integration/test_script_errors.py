"""A script that fails half-way: an error at each command of each script, and in the end the ledger still balances.

Redis undoes nothing when a script fails. Here the scripts run against a real server with an error injected at the n-th
command that one of them runs, for every n; then everything takes its normal course.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

import pytest
import redis
from rq import Queue as RQQueue
from rq import Retry
from rq.job import Job

from shared import keys, redis_scripts
from shared.batch import BatchState
from shared.batches import Batches
from shared.chunks import Chunk, Item, packed
from shared.errors import NotFound, RedisUnavailable
from shared.prediction import State
from shared.record import ends, state_of
from shared.settings import Settings
from shared.store import Store
from shared.submission import Caller
from tests import fakes
from tests.counted import COUNTED
from worker.queue import chunk_runner, recovery
from worker.queue.batch_worker import BatchWorker

T = TypeVar("T")

#: load.lua and fetch.lua only read; the others run where the memory is full.
OTHERS = ("load", "fetch", "evict", "insist")
SCRIPTS = [name for name in redis_scripts.NAMES if name not in OTHERS]
ERRORS = (RedisUnavailable, redis.ResponseError)
#: RQ's own, which live as long as the queue is used.
LASTING = ("test:", "rq:queues", "rq:worker", "rq:finished:", "rq:failed:", "rq:canceled:", "rq:clean_registries")
OPEN_STATES = (b"queued", b"running", b"started", b"scheduled")
WIP = [f"rq:wip:{queue}" for queue in keys.QUEUES]


@dataclass
class Ledger:
    """The responses to callers, and the published events."""

    accepted: dict[str, int | None] = field(default_factory=dict)
    cancelled: list[str] = field(default_factory=list)
    batches: dict[str, int] = field(default_factory=dict)
    cancelled_batches: list[str] = field(default_factory=list)
    jobs: list[str] = field(default_factory=list)
    callbacks: list[str] = field(default_factory=list)
    webhooks: Counter[str] = field(default_factory=Counter)


def again(call: Callable[[], T]) -> T:
    """Retries a call once after an error."""
    with suppress(*ERRORS):
        return call()
    return call()


def chunks(*images: bytes) -> list[Chunk]:
    """A chunk for each picture and its twin."""
    return [one for image in images for one in packed(Item("a.png", image) for _ in range(2))]


@contextmanager
def broken(name: str, lasting: bool, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Store that are made meanwhile have this script with a counter."""
    whole, counted = redis_scripts.source, COUNTED.replace("LASTING", str(lasting).lower())

    def source(which: str) -> str:
        first, _, rest = whole(which).partition("\n")
        return first + counted + rest if which == name else whole(which)

    with monkeypatch.context() as patch:
        patch.setattr(redis_scripts, "source", source)
        yield


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks are noted picture by picture, and what is open is looked after at once."""
    monkeypatch.setattr(chunk_runner, "SLICE", 1)
    monkeypatch.setattr(chunk_runner, "SAVE_SECONDS", -1)
    monkeypatch.setattr(recovery, "SWEEP_AFTER_SECONDS", 0)


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize(("name", "lasting"), [*((name, False) for name in SCRIPTS), ("claim", True), ("finish", True)])
def test_an_error_at_any_command_of_a_script_loses_nothing(
    name: str, lasting: bool, client: redis.Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with broken(name, lasting, monkeypatch):
        store = Store(client, replace(settings, result_ttl_seconds=1000))
    n, injected = 1, True
    while injected:
        client.flushall()
        client.set("test:left", n)
        ledger = Ledger()
        try:
            a_day(store, ledger)
            injected = int(client.get("test:left") or 0) <= 0
            client.delete("test:left")
            assert injected or not client.exists("digitq:bytes"), "bytes are counted that have ended"
            check(store, ledger)
        except (Exception, pytest.fail.Exception) as error:
            raise AssertionError(f"{name}.lua, command {n}: {error}") from error
        n += 1
    assert n > 2, "it did not run at all"


def a_day(store: Store, ledger: Ledger) -> None:
    """Everything that digitq does, once."""
    client, batches = store.client, Batches(store)
    worker = BatchWorker(store, fakes.classify, name="w", card={"version": "m"}, allowed=["tests.jobs.double"])
    listener = client.pubsub()
    listener.subscribe(keys.EVENTS)
    try:
        submit(store, ledger)
        submit_batches(batches, ledger)
        enqueue(client, ledger)
        look(store, ledger)
        lose_sight(store, ledger)
        begin(store, worker)
        for _ in range(8):
            expire(client)
            turn(worker)
            if settled(client):
                break
        again(lambda: store.renew("w", []))  # the next heartbeat
        call_back(store, ledger)
        forget(store, ledger)
        tidy_up(store)
    finally:
        worker.wakeup.close()
        ended = heard(listener)
        listener.close()
    assert [id for id, count in ended.items() if count > 1] == [], "ended twice"


def submit(store: Store, ledger: Ledger) -> None:
    notes, caller = {"callback_url": "https://example.org"}, Caller("o", "o")
    one = again(lambda: store.submit(b"1", idempotency_key="k", notes=notes, caller=caller))
    assert again(lambda: store.submit(b"1", idempotency_key="k", notes=notes, caller=caller)).id == one.id
    other = again(lambda: store.submit(b"2", notes=notes, caller=caller))
    bad = again(lambda: store.submit(b"undecodable"))
    gone = again(lambda: store.submit(b"3"))
    ledger.accepted |= {one.id: 1, other.id: 2, bad.id: None}
    ledger.callbacks += [one.id, other.id]
    again(lambda: store.cancel(gone.id))
    ledger.cancelled.append(gone.id)


def submit_batches(batches: Batches, ledger: Ledger) -> None:
    kept = again(lambda: batches.submit(chunks(b"4", b"5"), idempotency_key="a"))
    assert again(lambda: batches.submit(chunks(b"4", b"5"), idempotency_key="a")).id == kept.id
    gone = again(lambda: batches.submit(chunks(b"4", b"5")))
    ledger.batches[kept.id] = 4
    again(lambda: batches.cancel(gone.id))
    ledger.cancelled_batches.append(gone.id)


def enqueue(client: redis.Redis, ledger: Ledger) -> None:
    queue = RQQueue("digitq", connection=client, serializer="json")
    client.set(keys.image("plain"), b"6", ex=600)
    queue.enqueue(keys.JOB_FUNCTION, "plain", job_id="plain", retry=Retry(max=2), result_ttl=600, failure_ttl=600)
    ledger.accepted["plain"] = 6
    ledger.jobs.append(queue.enqueue("tests.jobs.double", 21, result_ttl=600, failure_ttl=600).id)


def look(store: Store, ledger: Ledger) -> None:
    """Poll, and find what RQ's tools have done."""
    cancelled, *others = (again(partial(store.submit, image)).id for image in (b"8", b"9"))
    Job.fetch(cancelled, connection=store.client, serializer="json").cancel()
    ledger.cancelled.append(cancelled)
    ledger.accepted |= dict.fromkeys(others, 9)
    for id in (cancelled, *others):
        again(partial(store.fetch, id))
    for batch in ledger.batches:
        again(partial(Batches(store).fetch, batch))


def lose_sight(store: Store, ledger: Ledger) -> None:
    """Jobs that somebody else has moved: deleted; started, without a lease; leased, and never started."""
    client, sound = store.client, Store(store.client, store.settings)
    deleted, started, leased = (sound.submit(b"7").id for _ in range(3))
    Job.fetch(deleted, connection=client, serializer="json").delete()
    client.lrem("rq:queue:digitq", 1, started)
    client.hset(f"rq:job:{started}", "status", "started")
    client.lrem("rq:queue:digitq", 1, leased)
    client.zadd("rq:wip:digitq", {f"{leased}:x": 1})
    ledger.accepted |= {deleted: None, started: 7, leased: 7}
    again(lambda: store.start_alone("stock"))


def begin(store: Store, worker: BatchWorker) -> None:
    """A worker that renews its claims, and does not come to all of them."""
    worker.classifier.classify = lambda images: fakes.classify(list(images)[:1])
    with suppress(*ERRORS):
        claims = worker.claimer.claim_batch()
        with suppress(*ERRORS):
            store.renew("w", claims)
        worker.run(claims)
    worker.classifier.classify = fakes.classify


def expire(client: redis.Redis) -> None:
    """Time goes by: leases that nobody renews run out."""
    leases = {key: client.zrange(key, 0, -1) for key in WIP}
    for key, members in leases.items():
        if members:
            client.zadd(key, dict.fromkeys(members, 1))


def turn(worker: BatchWorker) -> None:
    """Run the maintenance of a worker for a second, surviving its errors."""
    with suppress(*ERRORS):
        if worker.store.recovery_turn("w"):
            for step in (worker.recovery.recover_leases, worker.recovery.sweep):
                with suppress(*ERRORS):
                    step()
    again(lambda: worker.store.end_recovery_turn("w"))
    for _ in range(12):
        with suppress(*ERRORS):
            claims = worker.claimer.claim_batch()
            if not claims:
                break
            worker.run(claims)


def settled(client: redis.Redis) -> bool:
    return not client.exists(*map(keys.queue, keys.QUEUES), *WIP, keys.OPEN)


def call_back(store: Store, ledger: Ledger) -> None:
    with suppress(*ERRORS):
        assert store.due_webhook(60, 5, ["key:o"]) is None  # as many of this owner's calls as may be are being made
    for _ in range(6):
        if due_later := store.client.zrange(keys.WEBHOOKS, 0, -1):
            store.client.zadd(keys.WEBHOOKS, dict.fromkeys(due_later, 1))
        with suppress(*ERRORS):
            if due := store.due_webhook(60, 5):
                assert state_of(due.record)[0].terminal
                ledger.webhooks[due.id] += 1
                store.end_webhook(due, "delivered")


def forget(store: Store, ledger: Ledger) -> None:
    """Delete ended records. A call that raises an error may have deleted its record all the same."""
    batches = Batches(store)
    del ledger.accepted["plain"]
    for id, verbs in [("plain", store), *((id, batches) for id in ledger.cancelled_batches)]:
        with suppress(NotFound):
            again(partial(verbs.cancel, id))
        with pytest.raises(NotFound):
            again(partial(verbs.fetch, id))


def tidy_up(store: Store) -> None:
    """A day later: what RQ's tools have cancelled, and jobs that wait for one that is gone."""
    client, queue = store.client, RQQueue("digitq", connection=store.client, serializer="json")
    queue.enqueue("tests.jobs.double", 1, job_id="stale").cancel()
    queue.enqueue(
        "tests.jobs.double", 1, job_id="vain", depends_on=queue.enqueue("tests.jobs.double", 1, job_id="gone")
    )
    client.delete("rq:job:gone")
    client.lrem("rq:queue:digitq", 1, "gone")
    client.zadd("rq:canceled:digitq", {"stale": 1})
    client.zadd("rq:deferred:digitq", {"vain": 1})
    again(lambda: store.trim_registries(keys.QUEUES))
    assert not client.exists("rq:job:stale", "rq:job:vain", "rq:deferred:digitq")


def heard(listener: Any) -> Counter[str]:
    """Count the published ends of each record."""
    ended: Counter[str] = Counter()
    while message := listener.get_message():
        if message["type"] == "message":
            ended.update(record["id"] for record in ends(message["data"]))
    return ended


def check(store: Store, ledger: Ledger) -> None:
    client = store.client
    for id, digit in ledger.accepted.items():
        found = store.fetch(id)
        assert (found.state.terminal, found.digit) == (True, digit), found
        assert found.attempt <= 2, found
    for id in ledger.cancelled:
        assert store.fetch(id).state is State.CANCELLED
    for id, total in ledger.batches.items():
        batch = Batches(store).fetch(id)
        assert (batch.state, batch.succeeded, batch.failed, batch.total) == (BatchState.FINISHED, total, 0, total)
        rows = list(Batches(store).results(id))
        assert [(row["index"], row["digit"]) for row in rows] == list(enumerate([4, 4, 5, 5]))
    for id in ledger.jobs:
        assert Job.fetch(id, connection=client, serializer="json").return_value() == 42
    assert sorted(ledger.webhooks) == sorted(ledger.callbacks)
    assert max(ledger.webhooks.values()) <= 2
    assert int(client.get(keys.BULK) or 0) == 0
    assert left_over(client) == []
    store.submit(bytes(123))
    assert [int(sum_) for sum_ in client.hvals("digitq:bytes")] == [123]  # type: ignore[union-attr]


def left_over(client: redis.Redis) -> list[tuple[bytes, object]]:
    """Keys that stand for something that has not ended, or that would stay for ever."""
    names: list[bytes] = client.keys()  # type: ignore[assignment]
    fields = {b"digitq:batch": "state", b"rq:job": "status"}
    with client.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.ttl(name)
        ttls = pipeline.execute()
        states = [name for name in names if name.rpartition(b":")[0] in fields]
        for name in states:
            pipeline.hget(name.decode(), fields[name.rpartition(b":")[0]])
        found = dict(zip(states, pipeline.execute(), strict=True))
    waiting = {*map(keys.queue, keys.QUEUES), *WIP, keys.OPEN}
    return [
        *((name, ttl) for name, ttl in zip(names, ttls, strict=True)
          if (ttl < 0 and not name.decode().startswith(LASTING)) or name.decode() in waiting),
        *((name, state) for name, state in found.items() if state in OPEN_STATES),
    ]  # fmt: skip
