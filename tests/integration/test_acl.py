"""The users of `deploy/users.acl` on a real server: enough for each side to do all its work, and no more."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import redis
from rq import Queue as RQQueue
from rq import Retry

from producer.web.load import Gauge
from shared import keys
from shared.batches import Batches
from shared.chunks import Item, packed
from shared.standalone.embedded_server import server_binary
from shared.store import Store
from tests import fakes
from tests.pictures import png, seven
from tests.served import WebClient, site
from tests.sides import Sides, served
from worker.inference.classify import Classified, Pictures
from worker.queue.batch_worker import BatchWorker

ALLOWED = ("tests.jobs.double", "tests.jobs.explode")


@pytest.fixture(scope="module")
def sides() -> Iterator[Sides]:
    """One server for all that leave it as it is."""
    with tempfile.TemporaryDirectory(prefix="digitq-") as name, served(Path(name), server_binary()) as sides:
        yield sides


@pytest.fixture(autouse=True)
def nothing_is_denied(sides: Sides) -> Iterator[None]:
    sides.operator.flushall()
    sides.operator.acl_log_reset()
    yield
    denied = [(one["username"], one["context"], one["object"]) for one in sides.operator.acl_log()]
    assert denied == []


@pytest.fixture
def web(sides: Sides) -> Iterator[WebClient]:
    with site(sides.producer) as web:
        yield web


def classify(pictures: Pictures) -> Classified:
    """A 7, unless the picture is small: that is a bug."""
    return Classified([RuntimeError("a bug") if len(one) < 99 else fakes.outcome(7) for one in pictures], 0.1, 0.1)


def serve(store: Store) -> None:
    idle, busy = (BatchWorker(store, classify, card={"version": "fake-1"}, allowed=ALLOWED) for _ in range(2))
    idle.run_maintenance_tasks()
    idle.check_for_suspension(burst=True)
    idle.wakeup.wait(0.01)
    idle.wakeup.close()
    busy.work(burst=True)


def post(web: WebClient, path: str = "/v1/predictions", **words: Any) -> dict[str, Any]:
    response = web.post(path, data=seven(), content_type="image/png", **words)
    assert response.status_code in (200, 202), response.text
    return dict(response.json or {})


def post_batch(web: WebClient, *pictures: bytes) -> str:
    response = web.post("/v1/batches", data={"file": [(BytesIO(one), "a.png") for one in pictures]})
    return str((response.json or {})["links"]["self"])


def test_a_picture_goes_all_the_way(sides: Sides, web: WebClient) -> None:
    first = post(web, headers={"Idempotency-Key": '"k"'})
    assert post(web, headers={"Idempotency-Key": '"k"'})["id"] == first["id"]
    assert web.get(first["links"]["self"]).json["queue_position"] == 0  # type: ignore[index]
    serve(sides.worker)
    assert web.get(f"{first['links']['self']}?wait=5").json["digit"] == 7  # type: ignore[index]
    for path in (f"{first['links']['image']}?stage=input", first["links"]["image"], "/v1/model", "/v1/predictions",
                 "/v1/status", "/metrics"):  # fmt: skip
        assert web.get(path).status_code == 200, path
    assert web.delete(first["links"]["self"]).status_code == 204


def test_a_queued_picture_is_cancelled(sides: Sides, web: WebClient) -> None:
    assert web.delete(post(web)["links"]["self"]).status_code == 204
    assert web.delete(post_batch(web, seven())).status_code == 204


def test_a_batch_is_read_kept_and_forgotten(sides: Sides, web: WebClient) -> None:
    at = post_batch(web, png(bytes(784)), seven())
    serve(sides.worker)
    assert web.get(f"{at}?wait=5").json["state"] == "finished"  # type: ignore[index]
    assert web.get(f"{at}/results").status_code == 200
    assert web.delete(at).status_code == 204


def test_those_who_watch_hear_of_it(sides: Sides, web: WebClient) -> None:
    stream = web.get("/v1/events")
    assert Gauge(sides.producer).read()["redis"] is True
    stream.close()
    sides.worker.refuse("a reason")
    assert sides.producer.refusal() == "a reason"
    sides.worker.renew("w", [])
    assert web.get("/readyz").status_code == 200
    sides.worker.leave("w")
    assert web.get("/readyz").status_code == 503


def test_a_callback_is_taken_and_ended(sides: Sides) -> None:
    id = sides.producer.submit(seven(), notes={"callback_url": "https://example.org"}).id
    serve(sides.worker)
    assert sides.producer.due_webhook(5, 3, ["host:example.org"]) is None  # it is parked
    due = sides.producer.due_webhook(5, 3)
    assert due and due.id == id
    sides.producer.end_webhook(due, "delivered")


def test_what_a_worker_abandons_is_taken_over_and_what_it_did_not_come_to_goes_back(sides: Sides) -> None:
    first, second = sides.producer.submit(seven()), sides.producer.submit(seven())
    claims = sides.worker.claim("dead", keys.QUEUES, 64, "n")
    sides.worker.release("dead", claims[1:])
    sides.operator.zadd("rq:wip:digitq", {f"{first.id}:{claims[0].execution}": time.time() - 9})
    serve(sides.worker)
    assert [sides.producer.fetch(one.id).digit for one in (first, second)] == [7, 7]


def test_rqs_own_path_runs_retries_and_fails(sides: Sides) -> None:
    queue = RQQueue("digitq", connection=sides.operator, serializer="json")
    double = queue.enqueue("tests.jobs.double", 4)
    queue.enqueue("tests.jobs.explode", retry=Retry(max=1), depends_on=double)
    never = queue.enqueue("os.mkdir", "never")
    bug = sides.producer.submit(b"\x89PNG a bug")
    serve(one_attempt(sides.worker))
    assert double.latest_result().return_value == 8
    assert never.get_status() == "failed"
    assert (sides.producer.fetch(bug.id).error or {})["code"] == "internal_error"


def test_what_is_deep_in_a_queue_is_taken_back(sides: Sides) -> None:
    store, client = sides.producer, sides.operator
    client.rpush("rq:queue:digitq", *range(1500))
    deep = store.submit(seven()).id
    client.rpush("rq:queue:digitq", *range(1500))
    store.cancel(deep)
    client.ltrim("rq:queue:digitq", 1490, 1990)
    last = store.submit(seven()).id
    assert store.fetch(last).queue_position == store.load().queues["digitq"] - 1
    serve(sides.worker)
    assert [store.fetch(id).digit for id in (deep, last)] == [None, 7]


def test_what_nobody_looks_at_is_repaired(sides: Sides) -> None:
    store, client = sides.producer, sides.operator
    deleted, lost, scheduled = (store.submit(seven()).id for _ in range(3))
    client.delete(f"rq:job:{deleted}", "rq:queue:digitq")
    client.hset(f"rq:job:{lost}", "status", "started")
    client.hset(f"rq:job:{scheduled}", "status", "scheduled")
    client.zadd("rq:scheduled:digitq", {scheduled: 1})
    batch = Batches(store).submit(packed([Item("a.png", seven())]))
    assert sides.worker.sweep(0)[1] > 0
    serve(sides.worker)
    assert [store.fetch(id).digit for id in (deleted, lost, scheduled)] == [None, 7, 7]
    assert Batches(store).fetch(batch.id).succeeded == 1


def test_anonymous_users_are_refused_and_only_the_operator_reads_the_log(sides: Sides) -> None:
    path = sides.operator.connection_pool.connection_kwargs["path"]
    with redis.Redis(unix_socket_path=path) as nobody, pytest.raises(redis.AuthenticationError):
        nobody.ping()
    default = sides.operator.acl_getuser("default")
    assert "off" in default["flags"] and default["categories"] == ["+@all"] and default["keys"] == ["~*"]


@pytest.mark.parametrize("binary", {server_binary(), shutil.which("redis-server") or server_binary()})
def test_a_server_that_is_killed_comes_back_with_all_that_was_accepted(binary: str) -> None:
    with tempfile.TemporaryDirectory(prefix="digitq-") as name:
        with served(Path(name), binary) as first:
            id = first.producer.submit(seven()).id
        with served(Path(name), binary) as second:
            serve(second.worker)
            assert second.producer.fetch(id).digit == 7


def one_attempt(store: Store) -> Store:
    return Store(store.client, replace(store.settings, max_attempts=1))


@pytest.mark.parametrize("side", ["producer", "worker"])
def test_nobody_may_do_more(side: str, sides: Sides) -> None:
    store: Store = getattr(sides, side)
    others = {"producer": ("SET", "digitq:model", "x"), "worker": ("SET", "digitq:image:x", "x")}
    for words in (("FLUSHALL",), ("CONFIG", "GET", "*"), ("KEYS", "*"), ("GET", "other"), ("ACL", "LIST"),
                  ("EVAL", "return 1", 0), ("CLIENT", "KILL", "TYPE", "normal"),
                  ("SHUTDOWN",), ("REPLICAOF", "NO", "ONE"), ("PUBLISH", "other", "x"), others[side]):  # fmt: skip
        with pytest.raises(redis.exceptions.NoPermissionError):
            store.client.execute_command(*words)
    sides.operator.acl_log_reset()


@pytest.mark.parametrize("side", ["producer", "worker"])
def test_either_side_makes_room(side: str, sides: Sides, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.redis_server.room.FRESH_SECONDS", 0.0)
    sides.producer.submit(seven(), idempotency_key="k", notes={"callback_url": "https://example.org"})
    sides.producer.submit(seven())
    serve(sides.worker)
    try:
        sides.operator.config_set("maxmemory", 1)
        assert getattr(sides, side).make_room() == 1
        due = sides.producer.due_webhook(5, 3)
        assert due and getattr(sides, side).make_room() == 1
    finally:
        sides.operator.config_set("maxmemory", 0)
    assert list(sides.operator.scan_iter("digitq:i*")) == []


def test_a_worker_starts_and_recovers_in_a_full_redis(sides: Sides) -> None:
    id = sides.producer.submit(seven()).id
    [claim] = sides.worker.claim("dead", keys.QUEUES, 64, "n")
    sides.operator.zadd("rq:wip:digitq", {f"{id}:{claim.execution}": time.time() - 9})
    try:
        sides.operator.config_set("maxmemory", 1)
        serve(sides.worker)
        assert sides.producer.fetch(id).digit == 7
    finally:
        sides.operator.config_set("maxmemory", 0)
