"""Uses every feature of digitq many times, and lists the keys that Redis still holds after their retention.

python -m tests.leftovers [PICTURES [TTL]]     3,000 pictures with a time to live of 4 s, by default
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import redis
from rq import Queue as RQQueue
from rq import Retry, SimpleWorker
from rq.exceptions import NoSuchJobError
from rq.job import Job
from rq.registry import FailedJobRegistry

from shared import keys
from shared.batches import Batches
from shared.chunks import Item, packed
from shared.errors import Expired, Lost, NotFound, RateLimited, StillRunning
from shared.keys import Priority
from shared.settings import Settings
from shared.store import Store
from shared.submission import Caller
from tests import fakes
from worker import tasks
from worker.queue.batch_worker import BatchWorker

ALLOWED = ("tests.jobs.double", "tests.jobs.explode", "tests.jobs.on_success", "tests.jobs.on_failure")
#: Keys of a service without any picture, by the beginning of their names: "Keys that remain" in shared/README.md. The
#: first have a time to live that does not depend on DIGITQ_RESULT_TTL_SECONDS, the others have none.
FOR_A_WHILE = ("digitq:workers", "digitq:model", "digitq:flow:", "digitq:ready", "digitq:recovery", "digitq:refused",
               "rq:worker:", "rq:execution:", "rq:executions:", "rq:clean_")  # fmt: skip
FOR_EVER = ("rq:queues", "rq:workers")
#: Nothing lives longer than three times the TTL; then the registries are trimmed. In seconds.
LONGEST_TTLS, SLACK_SECONDS = 3, 20.0
PLAIN: dict[str, dict[str, Any]] = {
    "succeeds": {"image": b"7"},
    "fails": {"image": b"undecodable"},
    "fails by our fault": {"image": b"bug"},
    "has retries": {"image": b"bug", "retry": Retry(max=1)},
    "has no picture": {},
    "has a time to live": {"image": b"undecodable", "failure_ttl": 1, "result_ttl": 1},
}


@dataclass
class Service:
    """A store, and workers as they are needed."""

    store: Store
    client: redis.Redis
    #: Does the maintenance, whenever it is told to.
    keeper: BatchWorker

    @classmethod
    @contextmanager
    def on(cls, client: redis.Redis, settings: Settings) -> Iterator[Service]:
        store = Store(client, settings)
        with _worker(store) as keeper:
            keeper.maintenance_interval = 0
            yield cls(store, client, keeper)

    @property
    def queue(self) -> RQQueue:
        return RQQueue("digitq", connection=self.client, serializer="json")

    def work(self) -> None:
        """Run a worker until the queues are empty."""
        with _worker(self.store) as worker:
            worker.work(burst=True, logging_level="CRITICAL")

    def work_as_stock_rq(self) -> None:
        """Do the same with a stock RQ worker."""
        SimpleWorker(["digitq"], connection=self.client, serializer="json").work(burst=True, logging_level="CRITICAL")

    def keep_house(self) -> None:
        """Run a worker's maintenance, both that of each second and that of each minute."""
        self.keeper.recovery.last_run = float("-inf")
        self.keeper.recovery.run_if_due(burst=True)


@contextmanager
def faked_classifier() -> Iterator[None]:
    """Let jobs that RQ itself runs use the fake classifier too."""

    def fake() -> Any:
        serving: Any = lambda images: fakes.classify(images)  # noqa: E731
        serving.model, serving.preprocessing = SimpleNamespace(version="fake-1"), "mnist"
        return serving

    with patch.object(tasks, "classifier", fake):
        yield


@contextmanager
def _worker(store: Store) -> Iterator[BatchWorker]:
    worker = BatchWorker(store, fakes.classify, card={"version": "fake-1"}, allowed=ALLOWED)
    yield worker
    worker.wakeup.close()


def day(service: Service, pictures: int) -> None:
    """Submit that many pictures in every way, and let them end in every way."""
    _pictures(service, pictures // 2)
    _batches(service, pictures - pictures // 2)
    _plain_jobs(service, max(6, pictures // 20))


def _pictures(service: Service, count: int) -> None:
    store, ids = service.store, list[str]()
    images = (b"7", b"undecodable", b"3", b"bug")
    for n in range(count):
        notes = {"callback_url": "https://receiver.example/hook"} if n % 5 == 0 else {}
        key = f"key-{n // 2}" if n % 3 == 0 else ""
        caller = Caller("somebody" if n % 2 else "", "somebody" if n % 2 else "")
        with suppress(RateLimited):
            image, priority = images[n % len(images)], [*Priority][n % 3]
            one = store.submit(image, f"{n}.png", priority=priority, idempotency_key=key, caller=caller, notes=notes)
            ids.append(one.id)
    for id in ids[::7]:
        store.cancel(id)
    _die_with(service, len(ids) // 10)
    service.work()
    for n, id in enumerate(ids):
        if n % 11 == 0:
            _forget(store, id)
    for n, due in enumerate(iter(lambda: store.due_webhook(1, 3), None)):
        store.end_webhook(due, *(("delivered", None), ("failing", 60.0), ("gone", None))[n % 3])
        if n > count // 10:
            break
    with suppress(Exception):
        store.recent(100, owner="somebody")
    for n in range(3):  # nobody takes these in time
        store.submit(b"7", f"late-{n}.png", priority=Priority.LOW)


def _die_with(service: Service, count: int) -> None:
    """Claim that many pictures and let the leases run out."""
    claims = service.store.claim("dead", keys.QUEUES, max(1, min(64, count)), "n")
    over = service.store.time() - 1
    for claim in claims:
        service.client.zadd(f"rq:wip:{claim.queue}", {f"{claim.id}:{claim.execution}": over})
    service.keeper.recovery.recover_leases()


def _forget(store: Store, id: str) -> None:
    with suppress(StillRunning, NotFound, Expired, Lost):
        store.cancel(id)


def _batches(service: Service, count: int) -> None:
    batches, size = Batches(service.store), max(4, count // 6)
    found = []
    for n in range(6):
        images = [(b"7", b"undecodable", b"5")[at % 3] for at in range(size)]
        chunks = packed(Item(f"{at}.png", image, None) for at, image in enumerate(images))
        key = f"batch-{n // 2}-{n % 2}"
        found.append(batches.submit(chunks, size, idempotency_key=key, fingerprint="f", caller=Caller("somebody")))
    batches.cancel(found[0].id)
    service.work()
    with suppress(StillRunning):
        batches.cancel(found[1].id)
    _stage_and_go_away(batches, size)


def _stage_and_go_away(batches: Batches, size: int) -> None:
    def torn() -> Iterator[Any]:
        yield from packed([Item("a.png", b"7", None)] * size)
        raise ConnectionError

    with suppress(ConnectionError):
        batches.submit(torn(), size)


def _plain_jobs(service: Service, count: int) -> None:
    """Run jobs of plain RQ clients and RQ's tools: nothing of it names a time to live, with one exception."""
    client, queue, store = service.client, service.queue, service.store
    kinds = [*PLAIN.values()]

    def enqueued(name: str, image: bytes | None = b"7", **options: Any) -> Job:
        if image:
            client.set(keys.image(name), image, ex=store.settings.result_ttl_seconds)
        return queue.enqueue(keys.JOB_FUNCTION, name, job_id=name, **options)

    for n, image in enumerate((b"7", b"undecodable", None, b"bug")):
        enqueued(f"stock-{n}", image)
    service.work_as_stock_rq()
    for n in range(count):
        options = {"image": None, **kinds[n % len(kinds)]}
        enqueued(f"plain-{n}", **options)
        queue.enqueue("tests.jobs.double", n)
        queue.enqueue("tests.jobs.explode", description="another function that fails")
    enqueued("one-of-a-group", group_id="group")
    first = enqueued("first")
    enqueued("second", depends_on=first)
    failing = enqueued("failing", b"undecodable")
    enqueued("never", depends_on=failing)
    queue.enqueue("tests.jobs.double", 1, depends_on=failing, job_id="another-never")
    for n in range(5):
        enqueued(f"cancelled-{n}").cancel()
        enqueued(f"deleted-{n}").delete()
        queue.enqueue("tests.jobs.double", n, job_id=f"other-cancelled-{n}").cancel()
    client.zadd("rq:scheduled:digitq", {enqueued("due").id: 1})
    client.lrem("rq:queue:digitq", 1, "due")
    client.hset("rq:job:due", "status", "scheduled")
    service.work()
    for id in FailedJobRegistry(queue=queue).get_job_ids(cleanup=False)[:3]:
        with suppress(NoSuchJobError):
            Job.fetch(id, connection=client, serializer="json").requeue()
    service.work()


def left(client: redis.Redis) -> dict[str, int]:
    """The keys that do not belong to a service without pictures, with their TTL in seconds (-1: none)."""
    names = [raw.decode() for raw in client.scan_iter(count=1000)]
    ttls = {name: int(client.ttl(name)) for name in names if not name.startswith(FOR_EVER)}
    return {name: ttl for name, ttl in ttls.items() if ttl == -1 or (ttl >= 0 and not name.startswith(FOR_A_WHILE))}


def wait_until_nothing_is_left(service: Service) -> dict[str, int]:
    """Run the maintenance until nothing is left; return the keys that outlive the longest TTL."""
    end = time.monotonic() + LONGEST_TTLS * service.store.settings.result_ttl_seconds + SLACK_SECONDS
    while (rest := left(service.client)) and time.monotonic() < end:
        service.keep_house()
        time.sleep(0.1)
    return rest


def kinds_of(names: dict[str, int]) -> dict[str, tuple[int, int]]:
    """Count keys by the first two parts of their names, and the longest TTL of each (-1: none)."""
    found: Counter[str] = Counter(":".join(name.split(":")[:2]) for name in names)
    ttls = {kind: [ttl for name, ttl in names.items() if name.startswith(kind)] for kind in found}
    return {kind: (count, -1 if -1 in ttls[kind] else max(ttls[kind])) for kind, count in found.most_common()}


def main(pictures: int = 3000, ttl: int = 4) -> int:
    """Print the keys before and after; return 1 if any are left."""
    from tests.conftest import own_server

    logging.disable(logging.WARNING)  # that leases run out is what this is about
    os.environ["DIGITQ_RESULT_TTL_SECONDS"] = str(ttl)  # for worker.tasks
    with own_server() as url, faked_classifier():
        client = redis.Redis.from_url(url)
        settings = replace(Settings(), redis_url=url, result_ttl_seconds=ttl, rate_limit=f"{pictures}/2 seconds")
        with Service.on(client, settings) as service:
            began = time.monotonic()
            day(service, pictures)
            print(f"{pictures} pictures in {time.monotonic() - began:.1f} s: {client.dbsize()} keys")
            print(f"  {client.info('memory')['used_memory'] / 1e6:.1f} MB: {kinds_of(left(client))}")
            began = time.monotonic()
            rest = wait_until_nothing_is_left(service)
            print(f"{len(rest)} keys are left after {time.monotonic() - began:.1f} s: {kinds_of(rest)}")
            stays = {raw.decode(): int(client.ttl(raw)) for raw in client.scan_iter()}
            print(f"  what stays: {kinds_of(stays)}")
        client.close()
    return bool(rest)


if __name__ == "__main__":
    sys.exit(main(*(int(word) for word in sys.argv[1:])))
