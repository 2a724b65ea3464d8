"""A Redis whose memory is full: intake goes on, nothing that waits is deleted, workers start and recover."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

import pytest
import redis
from rq import Queue as RQQueue
from rq.job import Job

from shared import keys, redis_scripts
from shared.batches import Batches
from shared.chunks import Item, packed, raw
from shared.claims import Finish, Ran
from shared.errors import Expired, Lost, MemoryFull, QueueFull, RedisUnavailable
from shared.ids import new_id
from shared.keys import Priority
from shared.prediction import Prediction, State
from shared.settings import Settings
from shared.store import Store, connect
from shared.submission import Caller, Submission
from tests import fakes
from tests.conftest import own_server
from tests.counted import COUNTED
from tests.pictures import seven
from tests.served import site
from worker.queue.batch_worker import BatchWorker
from worker.queue.oom_retry import OomRetryRedis
from worker.telemetry import metrics

PICTURE = bytes(20_000)


@pytest.fixture(scope="module")
def small_url() -> Iterator[str]:
    """A server whose limit of memory the tests set."""
    with own_server() as url:
        yield url


@pytest.fixture
def client(small_url: str) -> Iterator[redis.Redis]:
    client = connect(small_url, timeout=5)
    client.config_set("maxmemory", 0)
    client.config_set("stream-node-max-bytes", 512)  # as `digitq up` has it, and the compose file
    client.execute_command("FLUSHALL", "SYNC")  # without SYNC memory is freed later, and `limit` would count it
    yield client
    client.close()


@pytest.fixture
def store(client: redis.Redis) -> Store:
    return Store(client, Settings(lease_seconds=60))


@pytest.fixture
def nothing_is_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets finished predictions be evicted at once."""
    for name in ("FRESH_SECONDS", "URGENT_SECONDS"):
        monkeypatch.setattr(f"shared.redis_server.room.{name}", 0.0)


def limit(client: redis.Redis, more: int) -> None:
    """Redis may use that many bytes more than it does."""
    client.config_set("maxmemory", client.info("memory")["used_memory"] + more)


def fill(client: redis.Redis) -> None:
    client.config_set("maxmemory", 1)


def classify_all(store: Store) -> list[str]:
    """End all that waits as a worker does."""
    ended = []
    while claims := store.claim("w", keys.QUEUES, 64, "n"):
        finishes = [Finish(claim, "e30=", "", fakes.outcome(7)) for claim in claims]
        store.finish("w", finishes, Ran("m", "p", 1, 0.4, 0.9))
        ended += [claim.id for claim in claims]
    return ended


def patiently(submit: Callable[[], Prediction]) -> Prediction:
    """As a client does: a busy machine may not make room in time."""
    for _ in range(20):
        try:
            return submit()
        except MemoryFull:
            time.sleep(0.05)
    return submit()


def of(client: redis.Redis, id: str) -> list[bytes]:
    """All keys of one id."""
    return list(client.scan_iter(f"*{id}*", count=1000))


# ---------------------------------------------------------------------- eviction


def test_intake_goes_on_past_full_for_many_times_the_memory(
    store: Store, client: redis.Redis, nothing_is_fresh: None
) -> None:
    limit(client, 3_000_000)
    ids, running = [], store.submit(PICTURE).id
    claimed = store.claim("busy", keys.QUEUES, 1, "n")
    for number in range(1000):  # 20 MB of pictures
        ids.append(patiently(lambda: store.submit(PICTURE, idempotency_key=f"k{number}", notes={"a": "b"})).id)  # noqa: B023
        if number % 20 == 0:
            classify_all(store)
    classify_all(store)
    assert client.info("memory")["used_memory"] < 1.05 * client.info("memory")["maxmemory"]
    assert store.fetch(ids[-1]).state is State.SUCCEEDED
    for id in ids[:500]:
        with pytest.raises(Expired):
            store.fetch(id)
    assert of(client, ids[0]) == []
    # Only finished predictions were evicted, however old the others are.
    assert store.fetch(running).state is State.RUNNING
    assert store.image(running) == PICTURE
    assert store.renew("busy", claimed) == 1
    assert client.xlen("digitq:ended") < 100
    assert client.zcard("rq:finished:digitq") < 200
    assert len(list(client.scan_iter("digitq:idempotency:*", count=1000))) < 200


def test_workers_make_room_before_memory_is_full_and_count_what_they_delete(
    store: Store, client: redis.Redis, worker: BatchWorker, nothing_is_fresh: None
) -> None:
    for _ in range(100):
        store.submit(PICTURE)
    classify_all(store)
    client.config_set("maxmemory", int(client.info("memory")["used_memory"] / 0.92))
    before = metrics.registry.get_sample_value("digitq_evicted_total") or 0
    worker.recovery.run_if_due(burst=True)
    memory = client.info("memory")
    assert memory["used_memory"] < 0.87 * memory["maxmemory"]
    assert (metrics.registry.get_sample_value("digitq_evicted_total") or 0) > before


def test_what_has_just_ended_is_kept_and_what_does_not_fit_is_told_that_memory_is_full(
    store: Store, client: redis.Redis
) -> None:
    ids = [store.submit(PICTURE).id for _ in range(30)]
    classify_all(store)
    fill(client)
    with pytest.raises(MemoryFull, match="memory is full") as refused:
        store.submit(b"8")
    assert isinstance(refused.value, RedisUnavailable)
    assert refused.value.extensions["retry_after_seconds"] > 0
    assert store.make_room() == 0
    assert {store.fetch(id).state for id in ids} == {State.SUCCEEDED}


def test_below_the_beginning_nothing_is_evicted(store: Store, client: redis.Redis) -> None:
    store.submit(PICTURE)
    classify_all(store)
    client.config_set("maxmemory", client.info("memory")["used_memory"] * 2)
    evict = {"begin": 0.9, "stop": 0.1, "fresh": -9, "batch_fresh": -9, "ttl": 9, "most": 9, "uncalled": 0, "more": 0}
    assert store.tell("evict", **evict) == [0, 0]
    assert store.tell("evict", **{**evict, "begin": 0.3}) == [1, 1]


def test_the_oldest_go_first_and_no_more_than_needed(store: Store, client: redis.Redis, nothing_is_fresh: None) -> None:
    ids = []
    for _ in range(300):
        ids.append(store.submit(PICTURE).id)
        classify_all(store)
    used = client.info("memory")["used_memory"]
    client.config_set("maxmemory", int(used / 0.92))
    assert store.make_room() > 0
    left = [bool(client.exists(keys.job(id))) for id in ids]
    assert left == sorted(left)
    memory = client.info("memory")
    assert 0.8 < memory["used_memory"] / memory["maxmemory"] < 0.88  # the server allocates meanwhile
    assert store.make_room() == 0


def test_without_a_limit_of_memory_nothing_goes(store: Store, nothing_is_fresh: None) -> None:
    id = store.submit(b"7").id
    classify_all(store)
    assert store.make_room() == 0
    assert store.fetch(id).state is State.SUCCEEDED


def test_queued_pictures_are_never_evicted(store: Store, client: redis.Redis, nothing_is_fresh: None) -> None:
    queued = store.submit(b"7").id
    batch = Batches(store).submit([raw(bytes(3 * 784), 28, 28)])
    taken_back = store.submit(b"8").id
    store.cancel(taken_back)
    put_back = store.submit(b"9", priority=Priority.HIGH).id
    [claim] = store.claim("w", keys.QUEUES, 1, "n")
    store.finish("w", [Finish(claim, "", "e30=", error=("internal_error", ""))])
    Job.fetch(put_back, connection=client, serializer="json").requeue()
    fill(client)
    assert store.make_room() == 1
    with pytest.raises(Expired):
        store.fetch(taken_back)
    assert store.fetch(queued).state is State.QUEUED
    assert Batches(store).fetch(batch.id).state.value == "queued"
    assert store.fetch(put_back).state is State.QUEUED


def test_what_an_operator_put_back_makes_room_once_it_has_run_again(
    store: Store, client: redis.Redis, nothing_is_fresh: None
) -> None:
    one, batch = store.submit(b"bug").id, Batches(store).submit([raw(bytes(784), 28, 28)] * 2).id
    BatchWorker(store, fakes.classify).work(burst=True)
    jobs = [f"rq:job:{one}", f"rq:job:{batch}-1"]
    for job in jobs:
        client.hset(job, "status", "queued")
    fill(client)
    assert store.make_room() == 0
    assert client.exists(*jobs) == 2
    assert client.zcard("rq:finished:digitq-low") == 2  # the batch stays whole, in RQ's terms too
    client.config_set("maxmemory", 0)
    for job in jobs:
        client.hset(job, "status", "finished")
    fill(client)
    assert store.make_room() == 2
    assert of(client, one) + of(client, batch) == []


def test_an_idempotency_key_goes_with_what_it_stands_for_and_no_sooner(
    store: Store, client: redis.Redis, nothing_is_fresh: None
) -> None:
    forgotten, batches = store.submit(b"7", idempotency_key="a"), Batches(store)
    batch = batches.submit([raw(bytes(784), 28, 28)], idempotency_key="b")
    first = store.submit(b"8", idempotency_key="c")
    client.delete(f"rq:job:{first.id}")
    second = store.submit(b"8", idempotency_key="c")  # for the first had been lost
    assert store.fetch(first.id).state is State.FAILED
    BatchWorker(store, fakes.classify).work(burst=True)
    store.cancel(forgotten.id)
    batches.cancel(batch.id)
    assert list(client.scan_iter("digitq:idempotency:*")) == [b"digitq:idempotency:c"]
    client.delete("digitq:ended")
    client.xadd("digitq:ended", {"predictions": first.id})
    fill(client)
    assert store.make_room() == 1
    client.config_set("maxmemory", 0)
    assert store.submit(b"8", idempotency_key="c").id == second.id


def test_a_batch_that_has_ended_makes_room_whole(store: Store, client: redis.Redis, nothing_is_fresh: None) -> None:
    batches = Batches(store)
    batch = batches.submit([raw(bytes(3 * 784), 28, 28)] * 2, idempotency_key="k", fingerprint="f")
    BatchWorker(store, fakes.classify).work(burst=True)
    assert batches.fetch(batch.id).state.terminal
    fill(client)
    assert store.make_room() == 1
    with pytest.raises(Expired):
        batches.fetch(batch.id)
    assert of(client, batch.id) == []
    assert list(client.scan_iter("digitq:idempotency:*")) == []


def test_whoever_asked_for_a_callback_is_called_before_the_prediction_goes(
    store: Store, client: redis.Redis, nothing_is_fresh: None
) -> None:
    id = store.submit(b"7", notes={"callback_url": "https://example.org"}).id
    classify_all(store)
    fill(client)
    assert store.make_room() == 0
    due = store.due_webhook(5, 3)
    assert due and due.id == id
    assert store.make_room() == 1
    assert of(client, id) == []
    assert client.zcard(keys.WEBHOOKS) == 0


def test_callbacks_that_nobody_can_make_do_not_fill_the_memory(
    store: Store, client: redis.Redis, nothing_is_fresh: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = {"callback_url": "https://dead.example"}
    ids = [store.submit(PICTURE, notes=notes, caller=Caller("o")).id for _ in range(50)]
    classify_all(store)
    assert store.due_webhook(60, 8, ["key:o"]) is None  # as many calls as may be are being made
    limit(client, -200_000)
    with pytest.raises(MemoryFull):
        store.submit(PICTURE)
    assert {store.fetch(id).state for id in ids} == {State.SUCCEEDED}
    monkeypatch.setattr("shared.redis_server.room.UNCALLED_SECONDS", -1.0)
    assert store.submit(PICTURE).state is State.QUEUED
    with pytest.raises(Expired, match="room"):
        store.fetch(ids[0])
    due = store.due_webhook(60, 8)
    assert due and due.id not in ids[:16]  # what is gone is not called any more


def test_room_is_made_for_what_is_larger_than_what_is_free(
    store: Store, client: redis.Redis, nothing_is_fresh: None
) -> None:
    ids = []
    for _ in range(400):
        ids.append(store.submit(PICTURE).id)
        classify_all(store)
    client.config_set("maxmemory", int(client.info("memory")["used_memory"] / 0.89))
    assert store.make_room() == 0
    large = int(0.2 * client.info("memory")["maxmemory"])
    assert store.submit(bytes(large)).state is State.QUEUED
    assert Batches(store).submit([raw(bytes(large // 784 * 784), 28, 28)]).total == large // 784
    assert store.fetch(ids[-1]).state is State.SUCCEEDED


def test_what_never_fits_does_not_clear_all_the_rest(store: Store, client: redis.Redis, nothing_is_fresh: None) -> None:
    ids = []
    for _ in range(300):
        ids.append(store.submit(PICTURE).id)
        classify_all(store)
    client.config_set("maxmemory", int(client.info("memory")["used_memory"] / 0.89))
    for _ in range(3):
        with pytest.raises(MemoryFull):
            store.submit(bytes(10_000_000))
    assert {store.fetch(id).state for id in ids} == {State.SUCCEEDED}


def test_an_id_that_nobody_deleted_is_lost_and_not_expired(
    store: Store, client: redis.Redis, nothing_is_fresh: None
) -> None:
    evicted = store.submit(b"7").id
    classify_all(store)
    fill(client)
    store.make_room()
    with pytest.raises(Expired, match="room"):
        store.fetch(evicted)
    with pytest.raises(Lost):
        store.fetch(new_id(now=store.time() + 0.1))


def test_a_key_of_another_type_does_not_stop_the_others_from_going(
    store: Store, client: redis.Redis, nothing_is_fresh: None
) -> None:
    odd, even = store.submit(b"7").id, store.submit(b"8").id
    classify_all(store)
    for key in (keys.job(odd), keys.image(odd), f"rq:job:{odd}"):
        client.delete(key)
        client.rpush(key, "what is this")
    fill(client)
    assert store.make_room() == 2
    assert of(client, odd) + of(client, even) == []


def test_over_http_a_full_memory_is_named_and_so_is_what_made_room(
    store: Store, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = store.submit(b"7").id
    classify_all(store)
    fill(client)
    with site(store) as web:
        refused = web.post("/v1/predictions", data=seven(), content_type="image/png")
        assert (refused.status_code, refused.json["code"]) == (503, "redis_unavailable")  # type: ignore[index]
        assert "memory is full" in refused.json["detail"]  # type: ignore[index]
        assert int(refused.headers["Retry-After"]) > 0
        assert web.get(f"/v1/predictions/{id}").status_code == 200
        for name in ("FRESH_SECONDS", "URGENT_SECONDS"):
            monkeypatch.setattr(f"shared.redis_server.room.{name}", 0.0)
        store.make_room()
        gone = web.get(f"/v1/predictions/{id}")
        assert (gone.status_code, gone.json["code"]) == (410, "expired")  # type: ignore[index]


def test_an_error_at_any_command_that_makes_room_leaves_each_prediction_whole_or_expired(
    store: Store, client: redis.Redis, monkeypatch: pytest.MonkeyPatch, nothing_is_fresh: None
) -> None:
    monkeypatch.setattr("shared.redis_server.room.CALL_SECONDS", 0.02)
    failing = COUNTED.replace("LASTING", "false")
    whole = redis_scripts.source("evict")
    monkeypatch.setattr(redis_scripts, "source", lambda name: whole.replace("\n", f"\n{failing}", 1))
    broken, left, tried = client.register_script(redis_scripts.source("evict")), 0, 0
    args = redis_scripts.arguments(begin=0.9, stop=0.85, fresh=0, batch_fresh=0, ttl=1000, most=64, uncalled=30, more=0)
    while left <= 0:
        tried += 1
        client.config_set("maxmemory", 0)
        client.flushall()
        ids = [store.submit(PICTURE, notes={"callback_url": "https://example.org"} if n else None).id for n in (0, 1)]
        classify_all(store)
        waiting = store.submit(b"7").id
        fill(client)
        client.execute_command(
            "EVAL", "#!lua flags=allow-oom\nreturn redis.call('SET', 'test:left', ARGV[1])", 0, tried
        )
        with suppress(redis.ResponseError):
            broken(args=args)
        left = int(client.get("test:left") or 0)
        for id in ids:
            with suppress(Expired):  # else it is there, or what is there of it goes next time
                assert store.fetch(id).state is State.SUCCEEDED
        store.make_room()
        assert of(client, ids[0]) == []
        assert store.fetch(ids[1]).state is State.SUCCEEDED  # nobody has been called back yet
        assert store.fetch(waiting).state is State.QUEUED
    assert tried > 10


@pytest.mark.parametrize("lost", [False, True])
def test_over_http_every_way_to_what_made_room_says_so(
    lost: bool, store: Store, client: redis.Redis, nothing_is_fresh: None
) -> None:
    id, batch = store.submit(b"7").id, Batches(store).submit([raw(bytes(784), 28, 28)]).id
    BatchWorker(store, fakes.classify).work(burst=True)
    if lost:
        client.flushall()
    else:
        fill(client)
        assert store.make_room() == 2
        client.config_set("maxmemory", 0)
    one, many = f"/v1/predictions/{id}", f"/v1/batches/{batch}"
    reads = [
        one,
        f"{one}?wait=5",
        f"{one}/image",
        f"{one}/image?stage=input",
        many,
        f"{many}?wait=5",
        f"{many}/results",
    ]
    with site(store) as web:
        answers = [*map(web.get, reads), web.delete(one), web.delete(many)]
        code = "lost" if lost else "expired"
        assert [(answer.status_code, answer.get_json()["code"]) for answer in answers] == [(410, code)] * 9
        assert web.get("/v1/predictions").get_json() == {
            "predictions": [],
            "next_cursor": None,
            "total": 0,
            "matching": 0,
        }


# ---------------------------------------------------------------------- memory reserved for queued pictures


def submit_until_full(store: Store) -> list[str]:
    ids = []
    with suppress(MemoryFull):
        while len(ids) < 20_000:
            ids.append(store.submit(b"7").id)
    return ids


@pytest.fixture
def nobody_waits_for_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intake is refused at once."""
    monkeypatch.setattr("shared.redis_server.room.WAIT_SECONDS", 0.0)


def test_all_that_was_accepted_has_room_to_end_though_nothing_may_be_deleted(
    store: Store, client: redis.Redis, nobody_waits_for_room: None
) -> None:
    limit(client, 6_000_000)
    ids = submit_until_full(store)
    assert len(ids) > 300
    classify_all(store)
    assert {store.fetch(id).state for id in ids[::50]} == {State.SUCCEEDED}
    memory = client.info("memory")
    assert memory["used_memory"] < 1.02 * memory["maxmemory"]


def test_uploads_go_on_as_soon_as_finished_predictions_can_be_evicted(
    store: Store, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.redis_server.room.URGENT_SECONDS", 0.1)
    monkeypatch.setattr("shared.redis_server.room.WAIT_SECONDS", 30.0)
    limit(client, 4_000_000)
    first = store.submit(b"7").id
    for _ in range(40):  # four times the memory: nobody is refused, and who is early waits
        store.submit_all([Submission(new_id(), b"7") for _ in range(64)])
        classify_all(store)
    with pytest.raises(Expired):
        store.fetch(first)
    memory = client.info("memory")
    assert memory["used_memory"] < 1.02 * memory["maxmemory"]


def test_where_intake_presses_predictions_go_early_and_batches_do_not(
    store: Store, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.redis_server.room.URGENT_SECONDS", 0.0)
    monkeypatch.setattr("shared.redis_server.room.FRESH_SECONDS", 1000.0)
    batch = Batches(store).submit(packed([Item("", b"7")] * 3))
    BatchWorker(store, fakes.classify).work(burst=True)
    limit(client, 3_000_000)
    for _ in range(40):
        store.submit_all([Submission(new_id(), b"7") for _ in range(64)])
        classify_all(store)
    assert store.make_room() == 0
    assert len(list(Batches(store).results(batch.id))) == 3


def test_concurrent_uploads_do_not_overfill_the_memory(
    store: Store, client: redis.Redis, nobody_waits_for_room: None
) -> None:
    limit(client, 6_000_000)
    with ThreadPoolExecutor(8) as pool:
        ids = [id for found in pool.map(submit_until_full, [store] * 8) for id in found]
    classify_all(store)
    assert len(ids) > 300
    memory = client.info("memory")
    assert memory["used_memory"] < 1.02 * memory["maxmemory"]


def test_where_a_user_may_not_ask_for_the_memory_uploads_are_accepted_all_the_same(
    small_url: str, client: redis.Redis
) -> None:
    client.acl_setuser("blind", enabled=True, nopass=True, keys=["*"], channels=["*"], commands=["+@all", "-info"])
    with connect(f"{small_url}?username=blind&password=x", timeout=5) as blind:
        assert Store(blind, Settings()).submit(b"7").state is State.QUEUED
    client.acl_deluser("blind")


def test_after_full_memory_and_a_lost_worker_a_higher_limit_is_enough(
    store: Store, client: redis.Redis, nobody_waits_for_room: None
) -> None:
    """Nothing is started again: the worker that stays and uploads go on as soon as there is room."""
    stays = BatchWorker(store, fakes.classify)
    limit(client, 3_000_000)
    ids = submit_until_full(store)
    for claim in store.claim("stopped", keys.QUEUES, 64, "n"):  # it takes them along
        client.zadd("rq:wip:digitq", {f"{claim.id}:{claim.execution}": store.time() - 1})
    submit_until_full(store)
    limit(client, 50_000_000)
    ids.append(patiently(lambda: store.submit(b"7")).id)
    stays.work(burst=True)
    assert {store.fetch(id).state for id in ids} == {State.SUCCEEDED}


# ---------------------------------------------------------------------- bytes that wait


def test_bytes_that_wait_are_bounded(store: Store, client: redis.Redis) -> None:
    small = Store(client, replace(store.settings, queue_max_bytes=50_000))
    small.submit(PICTURE)
    small.submit(PICTURE)
    before = client.dbsize()
    with pytest.raises(QueueFull, match="40000 bytes") as refused:
        small.submit(PICTURE)
    assert (refused.value.extensions["limit"], client.dbsize()) == (50_000, before)
    assert refused.value.extensions["retry_after_seconds"] > 0
    with pytest.raises(QueueFull):
        Batches(small).submit([raw(bytes(20 * 784), 28, 28)])
    assert client.dbsize() == before
    assert small.submit(bytes(9_000)).state is State.QUEUED
    classify_all(small)
    assert small.submit(PICTURE).state is State.QUEUED


def test_what_is_larger_than_the_bound_enters_where_nothing_waits(store: Store, client: redis.Redis) -> None:
    small = Store(client, replace(store.settings, queue_max_bytes=10))
    assert small.submit(PICTURE).state is State.QUEUED
    with pytest.raises(QueueFull):
        small.submit(b"7")


def test_the_count_of_bytes_follows_every_end_and_no_other(store: Store, client: redis.Redis) -> None:
    batches = Batches(store)

    def counted() -> int:
        return sum(int(value) for value in client.hvals("digitq:bytes"))  # type: ignore[union-attr]

    first, second = store.submit(PICTURE, idempotency_key="k"), store.submit(bytes(50))
    store.submit(PICTURE, idempotency_key="k")
    assert counted() == 20_050
    batch = batches.submit([raw(bytes(3 * 784), 28, 28)])
    size = client.strlen(keys.chunk(f"{batch.id}-0"))
    assert counted() == 20_050 + size
    store.cancel(second.id)
    store.cancel(second.id)
    assert counted() == 20_000 + size
    batches.cancel(batch.id)
    assert counted() == 20_000
    client.delete(f"rq:job:{first.id}")
    store.sweep(0)
    store.sweep(0)
    assert client.exists("digitq:bytes") == 0
    batches.submit([raw(bytes(3 * 784), 28, 28)])
    RQQueue("digitq", connection=client, serializer="json").enqueue(keys.JOB_FUNCTION, "x", job_id="x")
    BatchWorker(store, fakes.classify).work(burst=True)
    assert client.exists("digitq:bytes") == 0


def test_the_count_of_what_nobody_saw_end_expires_with_it(store: Store, client: redis.Redis) -> None:
    small = Store(client, replace(store.settings, queue_max_bytes=1000))
    small.submit(b"7")
    client.hset("digitq:bytes", mapping={str(int(store.time()) - 1): 10**12, str(int(store.time()) + 60): 100})
    small.submit(b"8")
    assert sorted(int(value) for value in client.hvals("digitq:bytes")) == [2, 100]  # type: ignore[union-attr]


def test_a_count_that_is_wrong_starts_afresh_once_nothing_waits(store: Store, client: redis.Redis) -> None:
    small = Store(client, replace(store.settings, queue_max_bytes=1000))
    id = small.submit(b"7").id
    client.hset("digitq:bytes", str(int(store.time()) + 60), 5000)  # of pictures that an older version has ended
    with pytest.raises(QueueFull):
        small.submit(b"8")
    [claim] = small.claim("w", keys.QUEUES, 64, "n")
    with pytest.raises(QueueFull):
        small.submit(b"8")
    done = Finish(claim, "e30=", "", fakes.outcome(7))
    small.finish("w", [done])
    assert small.fetch(id).state is State.SUCCEEDED
    small.submit(b"88")
    assert [int(value) for value in client.hvals("digitq:bytes")] == [2]  # type: ignore[union-attr]
    assert Batches(Store(client, replace(store.settings, queue_max_bytes=10_000))).submit([raw(bytes(784), 28, 28)])


# ---------------------------------------------------------------------- workers in a full Redis


@pytest.fixture
def worker(store: Store) -> Iterator[BatchWorker]:
    worker = BatchWorker(store, fakes.classify, card={"version": "fake-1"})
    yield worker
    worker.wakeup.close()


def test_a_worker_starts_serves_and_ends_in_a_full_redis(
    store: Store, client: redis.Redis, worker: BatchWorker
) -> None:
    id = store.submit(b"7").id
    fill(client)
    worker.work(burst=True)
    assert store.fetch(id).state is State.SUCCEEDED
    seen = client.hgetall(worker.key)
    assert seen[b"state"] == b"idle" and seen[b"device"] == b"cpu" and b"death" in seen
    assert client.scard("rq:workers") == 0


def test_a_dead_workers_claims_are_recovered_in_a_full_redis(
    store: Store, client: redis.Redis, worker: BatchWorker
) -> None:
    ids = [store.submit(b"7").id for _ in range(3)]
    for claim in store.claim("dead", keys.QUEUES, 64, "n"):
        client.zadd("rq:wip:digitq", {f"{claim.id}:{claim.execution}": store.time() - 1})
    fill(client)
    worker.work(burst=True)
    assert [(store.fetch(id).state, store.fetch(id).attempt) for id in ids] == [(State.SUCCEEDED, 2)] * 3


def test_what_has_no_attempts_left_ends_as_poison_in_a_full_redis(store: Store, client: redis.Redis) -> None:
    last = Store(client, replace(store.settings, max_attempts=1))
    id = last.submit(b"7").id
    [claim] = last.claim("dead", keys.QUEUES, 64, "n")
    client.zadd("rq:wip:digitq", {f"{id}:{claim.execution}": store.time() - 1})
    fill(client)
    BatchWorker(last, fakes.classify).work(burst=True)
    assert (last.fetch(id).error or {})["code"] == "poison"


def test_rqs_own_jobs_run_in_a_full_redis(store: Store, client: redis.Redis) -> None:
    queue = RQQueue("digitq", connection=client, serializer="json")
    first = queue.enqueue("tests.jobs.double", 4)
    second = queue.enqueue("tests.jobs.double", 5, depends_on=first)
    third = queue.enqueue("tests.jobs.explode")
    fill(client)
    BatchWorker(store, fakes.classify, allowed=["tests.jobs.double", "tests.jobs.explode"]).work(burst=True)
    assert first.latest_result().return_value == 8
    assert second.latest_result().return_value == 10
    assert third.get_status() == "failed"


def test_an_idle_worker_waits_in_a_full_redis(worker: BatchWorker, client: redis.Redis) -> None:
    fill(client)
    worker.wakeup.wait(0.01)
    sockets = [one._sock for one in worker.wakeup._connections.values()]
    for _ in range(9):
        worker.wakeup.wait(0.01)
    assert len(sockets) == len(keys.QUEUES)
    assert [one._sock for one in worker.wakeup._connections.values()] == sockets
    client.config_set("maxmemory", 0)
    worker.wakeup.wait(0)
    ringing = threading.Timer(0.05, client.rpush, ["rq:queue:digitq", "x"])
    ringing.start()
    start = time.monotonic()
    worker.wakeup.wait(30)
    assert time.monotonic() - start < 20
    ringing.join()


def test_what_a_full_redis_refuses_is_done_once_and_answered_as_usual(client: redis.Redis) -> None:
    retrying = OomRetryRedis(client)
    fill(client)
    with pytest.raises(redis.OutOfMemoryError):
        client.set("a", 1)
    assert retrying.set("a", 1, ex=60) is True
    assert retrying.set("a", 2, nx=True) is None
    with retrying.pipeline() as pipeline:
        pipeline.incr("n")
        pipeline.hset("h", mapping={"x": 1})
        pipeline.hgetall("h")
        pipeline.expire("h", 60)
        assert pipeline.execute() == [1, 1, {b"x": b"1"}, True]
    with retrying.pipeline(transaction=False) as pipeline, pytest.raises(redis.OutOfMemoryError):
        pipeline.incr("n").execute()
    assert client.get("n") == b"1"


def test_what_is_watched_is_watched_in_a_full_redis_too(client: redis.Redis) -> None:
    retrying, tries = OomRetryRedis(client), 0
    fill(client)
    with retrying.pipeline() as pipeline:
        while True:
            tries += 1
            pipeline.watch("n")
            seen = int(pipeline.get("n") or 0)
            if tries == 1:
                retrying.set("n", 10)  # by somebody else, on another connection
            pipeline.multi()
            pipeline.set("n", seen + 1)
            try:
                assert pipeline.execute() == [True]
                break
            except redis.WatchError:
                assert tries == 1
    assert (client.get("n"), tries) == (b"11", 2)


def test_a_transaction_that_watches_starts_again_when_it_is_refused(client: redis.Redis) -> None:
    retrying = OomRetryRedis(client)
    client.set("n", 10)
    fill(client)
    with retrying.pipeline() as pipeline:
        pipeline.watch("n")
        client.delete("n")  # by somebody else; it needs no memory
        pipeline.multi()
        pipeline.set("n", 11)
        with pytest.raises(redis.WatchError):
            pipeline.execute()
        assert client.get("n") is None
        pipeline.watch("n")
        pipeline.multi()
        pipeline.set("n", 1)
        assert pipeline.execute() == [True]
