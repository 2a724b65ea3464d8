"""The same jobs through RQ's SimpleWorker and through ours leave the same state in RQ's keys, field by field."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis
from rq import Callback, Retry, SimpleWorker
from rq import Queue as RQQueue
from rq.job import Job

from shared import keys
from shared.settings import Settings
from shared.store import Store
from tests import fakes
from worker.queue.batch_worker import BatchWorker

#: Values that differ from run to run: only their presence is compared. TTLs are compared to the second.
VARYING = {"created_at", "enqueued_at", "started_at", "ended_at", "last_heartbeat", "worker_name", "exc_string",
           "execution_id", "execution_started_at", "execution_ended_at", "data"}  # fmt: skip
FUNCTIONS = {"tests.jobs.double", "tests.jobs.explode", "tests.jobs.on_success", "tests.jobs.on_failure"}


class BoundedQueue(RQQueue):
    """Keep failures as long as digitq does; RQ's default is a year (test_leftovers.py)."""

    def create_job(self, *args: Any, failure_ttl: int | None = None, **options: Any) -> Job:
        return super().create_job(*args, failure_ttl=failure_ttl or Settings().result_ttl_seconds, **options)


def picture(queue: RQQueue, image: bytes, **options: Any) -> list[Job]:
    """A job for our function, as a plain RQ client enqueues it."""
    queue.connection.set(keys.image("p"), image, ex=600)
    return [queue.enqueue(keys.JOB_FUNCTION, "p", job_id="p", **options)]


def from_us(queue: RQQueue) -> list[Job]:
    """A job as our own submit script writes it."""
    id = Store(queue.connection, Settings()).submit(b"7", id="p").id
    return [Job.fetch(id, connection=queue.connection, serializer="json")]


def with_dependent(queue: RQQueue, image: bytes) -> list[Job]:
    [first] = picture(queue, image)
    return [first, queue.enqueue("tests.jobs.double", 21, job_id="d", depends_on=first)]


def with_callbacks(queue: RQQueue, image: bytes) -> list[Job]:
    calls = {"on_success": Callback("tests.jobs.on_success"), "on_failure": Callback("tests.jobs.on_failure")}
    return picture(queue, image, **calls)


SCENARIOS: dict[str, Callable[[RQQueue], list[Job]]] = {
    "success": lambda queue: picture(queue, b"7"),
    "success, submitted by us": from_us,
    "success with a time to live": lambda queue: picture(queue, b"7", result_ttl=77, failure_ttl=88),
    "success kept for ever": lambda queue: picture(queue, b"7", result_ttl=-1),
    "success not kept": lambda queue: picture(queue, b"7", result_ttl=0),
    "undecodable": lambda queue: picture(queue, b"undecodable", failure_ttl=88),
    "undecodable with retries": lambda queue: picture(queue, b"undecodable", retry=Retry(max=2)),
    "failure": lambda queue: picture(queue, b"bug"),
    "failure with retries": lambda queue: picture(queue, b"bug", retry=Retry(max=2)),
    "retry later": lambda queue: picture(queue, b"bug", retry=Retry(max=2, interval=60)),
    "timeout": lambda queue: picture(queue, b"slow", job_timeout=1),
    "dependents after a success": lambda queue: with_dependent(queue, b"7"),
    "dependents after a failure": lambda queue: with_dependent(queue, b"undecodable"),
    "callbacks after a success": lambda queue: with_callbacks(queue, b"7"),
    "callbacks after a failure": lambda queue: with_callbacks(queue, b"undecodable"),
    "another function": lambda queue: [queue.enqueue("tests.jobs.double", 21, job_id="p")],
    "another function that fails": lambda queue: [queue.enqueue("tests.jobs.explode", job_id="p")],
    "a group": lambda queue: picture(queue, b"7", group_id="g"),
}


@contextmanager
def ours(client: redis.Redis, store: Store) -> Iterator[BatchWorker]:
    worker = BatchWorker(store, fakes.classify, queues=["digitq"], allowed=FUNCTIONS)
    yield worker
    worker.wakeup.close()


@contextmanager
def stock(client: redis.Redis, store: Store) -> Iterator[SimpleWorker]:
    yield SimpleWorker(["digitq"], connection=client, serializer="json")


@pytest.mark.parametrize("name", SCENARIOS)
def test_both_workers_leave_the_same(
    name: str, client: redis.Redis, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    import digitq.tasks
    import tests.jobs

    monkeypatch.setattr(digitq.tasks, "classify", tests.jobs.classify)
    left = []
    for side in (stock, ours):
        client.flushall()
        queue = BoundedQueue("digitq", connection=client, serializer="json")
        jobs = SCENARIOS[name](queue)
        with side(client, store) as one:
            one.work(burst=True, logging_level="CRITICAL")
        left.append(snapshot(client, [job.id for job in jobs]))

    assert left[1] == left[0]


def snapshot(client: redis.Redis, ids: list[str]) -> dict[str, Any]:
    """Everything under rq:* except the workers' own hashes, times replaced by the fact that they are there."""
    found: dict[str, Any] = {}
    for key in sorted(client.scan_iter("rq:*")):
        name = key.decode()
        if name.startswith(("rq:worker", "rq:clean", "rq:group-maintenance")):
            continue
        found[name] = {"value": value(client, name), "ttl": round(client.pttl(key) / 10_000)}
    found["jobs"] = {id: job(client, id) for id in ids}
    found["callbacks"] = [client.get("test:success"), client.get("test:failure")]
    [worker] = client.keys("rq:worker:*") and [key for key in client.keys("rq:worker:*") if client.type(key) == b"hash"]
    counts = client.hmget(worker, "successful_job_count", "failed_job_count")
    found["worker"] = [*counts, client.hexists(worker, "total_working_time")]
    return found


def value(client: redis.Redis, name: str) -> Any:
    kind = client.type(name)
    if kind == b"zset":
        return _scores(client, name)
    if kind == b"hash":
        return None  # jobs are compared as RQ reads them
    if kind == b"stream":
        return [
            {k.decode(): k.decode() in VARYING or said(k, v) for k, v in fields.items()}
            for _, fields in client.xrange(name)
        ]
    return {b"set": client.smembers, b"list": lambda n: client.lrange(n, 0, -1), b"string": client.get}[kind](name)


def said(field: bytes, value: bytes) -> Any:
    """Compare return values as parsed JSON, whatever its spaces."""
    return json.loads(b64decode(value)) if field == b"return_value" else value


def _scores(client: redis.Redis, name: str) -> dict[bytes, int | str]:
    """Return the seconds from now by member, to ten seconds; infinity as it is. Members of one second have no order."""
    now = float(client.time()[0])
    return {
        member: "inf" if score == float("inf") else round((score - now) / 10)
        for member, score in client.zrange(name, 0, -1, withscores=True)
    }


def job(client: redis.Redis, id: str) -> Any:
    if not client.exists(f"rq:job:{id}"):
        return None
    one = Job.fetch(id, connection=client, serializer="json")
    fields = {k: bool(v) if k in VARYING else v for k, v in one.to_dict().items()}
    result = one.latest_result()
    return {**fields, "call": [one.func_name, one.args], "value": one.return_value(), "type": result and result.type}
