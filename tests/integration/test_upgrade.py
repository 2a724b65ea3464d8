"""Two versions on one queue, and a queue from a backup: accepted pictures finish, whichever version wrote them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import redis

from shared import keys
from shared.ids import new_id
from shared.prediction import State
from shared.settings import Settings
from shared.store import Store, connect
from tests import fakes
from tests.conftest import start_server
from worker.queue.batch_worker import BatchWorker

AT = "2026-11-29T02:22:59.715309Z"


def job(id: str) -> dict[str, str]:
    """The RQ job of a picture as digitq 0.2 enqueues it, with the file name of the upload."""
    return {
        "status": "queued", "origin": "digitq", "created_at": AT, "enqueued_at": AT,
        "data": json.dumps(["digitq.tasks.classify", None, [id], {}], separators=(",", ":")),
        "description": f"digitq.tasks.classify('{id}')", "timeout": "30", "result_ttl": "86400", "failure_ttl": "86400",
        "retries_left": "2", "enqueue_at_front_on_retry": "1", "digitq_about": '{"filename":"7.png"}',
    }  # fmt: skip


def uploaded_picture(client: redis.Redis) -> str:
    """A picture from a web process of 0.2."""
    id = new_id()
    client.set(keys.image(id), b"7")
    client.hset(keys.job(id), mapping=job(id))
    client.rpush("rq:queue:digitq", id)
    client.sadd("rq:queues", "rq:queue:digitq")
    client.zadd("digitq:open", {id: 0})
    client.hset("digitq:accepted", id, "1900000000:1:")
    return id


def held(client: redis.Redis, id: str) -> None:
    """The same in the hands of a worker of 0.2, which has died since."""
    client.lrem("rq:queue:digitq", 1, id)
    started = {"status": "started", "started_at": AT, "last_heartbeat": AT, "worker_name": "o", "digitq_run": "1:n10"}
    client.hset(keys.job(id), mapping=started)
    client.zadd("rq:wip:digitq", {f"{id}:n10": time.time() - 1})


def serve(store: Store) -> None:
    """A worker of this version, until nothing is left."""
    worker = BatchWorker(store, fakes.classify)
    worker.recovery.recover_leases()
    while claims := worker.claimer.claim_batch():
        worker.run(claims)
    worker.wakeup.close()


def test_an_older_web_process_is_served_by_a_newer_worker(store: Store, client: redis.Redis) -> None:
    waiting, orphan = uploaded_picture(client), uploaded_picture(client)
    held(client, orphan)
    assert store.fetch(waiting).state is State.QUEUED
    serve(store)
    for id, attempt in ((waiting, 1), (orphan, 2)):
        found = store.fetch(id)
        assert (found.state, found.digit, found.filename, found.attempt) == (State.SUCCEEDED, 7, "7.png", attempt)


def test_an_older_worker_finds_every_field_it_knows_in_jobs_of_a_newer_web_process(
    store: Store, client: redis.Redis
) -> None:
    id = store.submit(b"7", filename="7.png").id
    older, times = job(id), {"created_at", "enqueued_at"}
    now = {name.decode(): value.decode() for name, value in client.hgetall(keys.job(id)).items()}
    assert {name: now.get(name) for name in older.keys() - times} == {n: older[n] for n in older.keys() - times}
    assert all(len(now[name]) == len(AT) for name in times)
    assert client.get(keys.image(id)) == b"7" and client.lrange("rq:queue:digitq", 0, -1) == [id.encode()]
    assert client.zscore("digitq:open", id) and client.hget("digitq:accepted", id)


def test_a_result_of_an_older_worker_reads_like_any_other(store: Store, client: redis.Redis) -> None:
    id = uploaded_picture(client)
    found = {"digit": 7, "confidence": 0.91, "probabilities": [0.01] * 7 + [0.91, 0.01, 0.01], "decision": "accept",
             "model": "seed-1", "preprocessing": "mnist-4", "batch": [1, 0], "ms": [0.4, 0.9]}  # fmt: skip
    ended = {"status": "finished", "started_at": AT, "ended_at": AT, "digitq_run": "1:n10"}
    client.hset(keys.job(id), mapping={**ended, "digitq_found": json.dumps(found)})
    read = store.fetch(id).to_json()
    assert (read["digit"], read["reason"], read["model"], read["timings_ms"]["total"]) == (7, None, "seed-1", 0)


@contextmanager
def server(folder: Path, *options: str) -> Iterator[Store]:
    process, url = start_server(folder, *options)
    client = connect(url, timeout=5)
    yield Store(client, Settings(redis_url=url, lease_seconds=1))
    client.close()
    process.terminate()
    process.wait()


def test_a_backup_restores_queued_running_and_finished_pictures() -> None:
    with TemporaryDirectory(prefix="digitq-") as first, TemporaryDirectory(prefix="digitq-") as second:
        with server(Path(first), "--appendonly", "yes") as store:
            ended = store.submit(b"7").id
            serve(store)
            in_hand = store.submit(b"7").id
            store.claim("gone", keys.QUEUES, 1, "n")
            waits = store.submit(b"7").id
            store.client.save()
            (Path(first) / "dump.rdb").rename(Path(second) / "dump.rdb")
        # As deploy/README.md says: the file is read by a server without a log, which then begins one.
        with server(Path(second)) as store:
            store.client.config_set("appendonly", "yes")
            while store.client.info("persistence")["aof_rewrite_in_progress"]:
                time.sleep(0.02)
        with server(Path(second), "--appendonly", "yes") as store:
            assert store.fetch(ended).digit == 7
            serve(store)
            assert store.fetch(waits).digit == 7
            while not store.fetch(in_hand).state.terminal:
                serve(store)  # its lease has to run out
                time.sleep(0.05)
            assert store.fetch(in_hand).digit == 7
