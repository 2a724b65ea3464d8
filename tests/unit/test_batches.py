"""Batches against a real server, with a stand-in for the model: what is accepted, run, killed, taken back and read."""

from __future__ import annotations

import gzip
import io
import json
import os
import struct
import threading
import time
import zipfile
from base64 import b64encode
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import redis
from rq import Queue as RQQueue
from rq import SimpleWorker
from rq.job import Job

from producer import csv_rows
from producer.web import batches as web_batches
from producer.web import services
from shared import batches as shared_batches
from shared import chunks, keys
from shared.batch import BatchState
from shared.batches import Batches
from shared.chunks import Chunk, Item, packed, raw
from shared.claims import Claim
from shared.errors import (
    IdempotencyMismatch,
    NotFound,
    QueueFull,
    StillRunning,
    TooManyImages,
    UnsupportedType,
)
from shared.keys import Priority
from shared.store import Store
from tests import fakes
from tests.pictures import png, seven, zip_of
from tests.rsgi import Proto
from tests.served import WebClient, site
from tests.waits import until
from worker.inference.classify import Classified, Pictures
from worker.queue.batch_worker import BatchWorker


def classify(images: Pictures) -> Classified:
    """`tests.fakes.classify`; of grey levels the first pixel is the digit."""
    words = [one if isinstance(one, bytes) else str(one.flat[0] % 10).encode() for one in images]
    return fakes.classify(words)


WORKERS: list[BatchWorker] = []


@pytest.fixture(autouse=True)
def workers_are_closed() -> Iterator[None]:
    yield
    while WORKERS:
        WORKERS.pop().wakeup.close()


def worker(store: Store, name: str | None = None) -> BatchWorker:
    WORKERS.append(BatchWorker(store, classify, card={"version": "fake-1"}, name=name))
    return WORKERS[-1]


def burst(store: Store) -> None:
    worker(store).work(burst=True)


def files(*images: bytes) -> list[Chunk]:
    return list(packed(Item(f"{at}.png", image, None) for at, image in enumerate(images)))


def digits(count: int) -> list[Chunk]:
    return files(*(str(at % 10).encode() for at in range(count)))


def die(store: Store, client: redis.Redis, claim: Claim) -> None:
    """The worker that holds the claim is gone, and RQ's recovery has noticed."""
    client.zadd(f"rq:wip:{claim.queue}", {f"{claim.id}:{claim.execution}": store.time() - 1})
    worker(store).recovery.recover_leases()


def take(store: Store, name: str = "dead") -> Claim:
    [claim] = store.claim(name, keys.QUEUES, 64, "n")
    return claim


@pytest.fixture
def patient(store: Store) -> Store:
    """With a lease that a slow machine cannot outlast where no heartbeat renews it."""
    return Store(store.client, replace(store.settings, lease_seconds=60))


@pytest.fixture
def batches(store: Store) -> Batches:
    return Batches(store)


# ---------------------------------------------------------------------- running


def test_a_batch_ends_with_a_result_for_each_picture_in_order(store: Store, batches: Batches) -> None:
    batch = batches.submit(digits(600))
    assert (batch.state, batch.total) == (BatchState.QUEUED, 600)
    burst(store)
    found = batches.fetch(batch.id)
    assert (found.state, found.succeeded, found.failed, found.cancelled) == (BatchState.FINISHED, 600, 0, 0)
    assert found.submitted_at and found.started_at and found.finished_at
    rows = list(batches.results(batch.id))
    assert [(row["index"], row["filename"], row["digit"]) for row in rows] == [
        (at, f"{at}.png", at % 10) for at in range(600)
    ]
    assert rows[5] == {"index": 5, "filename": "5.png", "state": "succeeded", "digit": 5, "confidence": 0.91,
                       "decision": "accept", "reason": None, "warnings": ["inverted"], "error": None,
                       "model": "fake-1"}  # fmt: skip


def test_grey_levels_are_run_without_a_file_format_in_between(store: Store, batches: Batches) -> None:
    greys = np.zeros((300, 3, 5), np.uint8)
    greys[:, 0, 0] = np.arange(300) % 10
    batch = batches.submit([raw(greys[:256].tobytes(), 3, 5), raw(greys[256:].tobytes(), 3, 5)])
    burst(store)
    rows = list(batches.results(batch.id))
    assert [(row["filename"], row["digit"]) for row in rows] == [(None, at % 10) for at in range(300)]


def test_one_bad_picture_fails_alone_with_its_name(store: Store, batches: Batches) -> None:
    refused = Item("notes.txt", b"", UnsupportedType("Supported are pictures"))
    items = [Item("a.png", b"1", None), refused, Item("b.png", b"undecodable", None), Item("c.png", b"bug", None)]
    batch = batches.submit(packed([*items, Item("d.png", b"2", None)]))
    burst(store)
    rows = list(batches.results(batch.id))
    assert [row["digit"] for row in rows] == [1, None, None, None, 2]
    assert [(row["error"] or {}).get("code") for row in rows] == [
        None, "unsupported_type", "undecodable_image", "internal_error", None
    ]  # fmt: skip
    found = batches.fetch(batch.id)
    assert (found.state, found.succeeded, found.failed) == (BatchState.FINISHED, 2, 3)


def test_a_chunk_is_an_ordinary_rq_job(store: Store, batches: Batches, client: redis.Redis) -> None:
    batch = batches.submit(digits(300))
    queue = RQQueue("digitq-low", connection=client, serializer="json")
    assert queue.get_job_ids() == [f"{batch.id}-0", f"{batch.id}-1"]
    assert queue.jobs[0].func_name == keys.CHUNK_FUNCTION
    burst(store)
    job = Job.fetch(f"{batch.id}-1", connection=client, serializer="json")
    assert (job.get_status().value, job.return_value()) == (
        "finished",
        {"batch": batch.id, "chunk": f"{batch.id}-1"},
    )
    assert queue.finished_job_registry.count == 2
    assert queue.started_job_registry.count == 0


def test_a_stock_worker_runs_a_chunk_to_the_same_results(
    store: Store, batches: Batches, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    import worker.tasks

    serving: Any = lambda images: classify(images)  # noqa: E731
    serving.model = SimpleNamespace(version="fake-1")
    monkeypatch.setattr(worker.tasks, "classifier", lambda: serving)
    images = [b"1", b"undecodable", b"2", *[b"3"] * 100]
    ours = batches.submit(files(*images))
    burst(store)
    theirs = batches.submit(files(*images))
    SimpleWorker(keys.QUEUES, connection=client, serializer="json").work(burst=True, logging_level="CRITICAL")
    assert list(batches.results(theirs.id)) == list(batches.results(ours.id))
    one, other = batches.fetch(ours.id), batches.fetch(theirs.id)
    assert (one.state, one.succeeded, one.failed) == (other.state, other.succeeded, other.failed)
    fields = [
        {k: v for k, v in client.hgetall(f"rq:job:{batch.id}-0").items() if not k.endswith((b"_at", b"heartbeat"))}
        for batch in (ours, theirs)
    ]
    assert [one.get(b"status") for one in fields] == [b"finished", b"finished"]
    assert fields[0].keys() - {b"worker_name", b"digitq_run"} <= fields[1].keys()


def test_the_number_of_queued_pictures_is_right_before_and_after(
    store: Store, batches: Batches, client: redis.Redis
) -> None:
    batch = batches.submit(digits(600))
    assert client.get(keys.BULK) == b"597"
    burst(store)
    assert client.get(keys.BULK) is None
    assert client.exists(keys.chunk(f"{batch.id}-0")) == 0  # nobody will run it again


def test_every_key_of_a_batch_has_an_end(store: Store, batches: Batches, client: redis.Redis) -> None:
    batches.submit(digits(300), idempotency_key="k", fingerprint="f")
    waiting = [key for key in client.keys("digitq:*") if client.ttl(key) < 0]
    burst(store)
    ended = [key for key in client.keys("digitq:*") if client.ttl(key) < 0]
    assert (waiting, ended) == ([], [])


# ---------------------------------------------------------------------- dying


def test_a_chunk_whose_worker_died_is_run_again_and_nothing_is_counted_twice(
    store: Store, batches: Batches, client: redis.Redis
) -> None:
    batch = batches.submit(digits(100))
    claim = take(store)
    assert batches.note(claim.id, "1", {0: (7, 0.9, "accept", None, [])})
    die(store, client, claim)
    assert [row["state"] for row in batches.results(batch.id)][:2] == ["succeeded", "queued"]
    burst(store)
    found = batches.fetch(batch.id)
    assert (found.state, found.succeeded, found.failed) == (BatchState.FINISHED, 100, 0)
    assert [row["digit"] for row in batches.results(batch.id)] == [7, *(at % 10 for at in range(1, 100))]


def test_a_late_worker_writes_nothing(store: Store, batches: Batches, client: redis.Redis) -> None:
    batch = batches.submit(digits(10))
    late = worker(store)
    [claim] = late.claimer.claim_batch()
    die(store, client, claim)
    burst(store)
    before = list(batches.results(batch.id))
    late.classifier.classify = lambda images: Classified([fakes.outcome(0) for _ in images], 0, 0)
    late.run([claim])
    assert list(batches.results(batch.id)) == before
    assert batches.fetch(batch.id).succeeded == 10


class Killed(BaseException):
    """kill -9, as far as the code can tell: nothing after it runs."""


def test_a_picture_that_kills_is_condemned_alone(patient: Store, batches: Batches, client: redis.Redis) -> None:
    images = [b"poison" if at == 40 else str(at % 10).encode() for at in range(100)]
    batch = batches.submit(files(*images))
    deaths = 0

    def deadly(pictures: Pictures) -> Classified:
        if any(one == b"poison" for one in pictures):
            raise Killed
        return classify(pictures)

    while not batches.fetch(batch.id).state.terminal:
        victim = worker(patient, f"victim-{deaths}")
        victim.classifier.classify = deadly
        [claim] = victim.claimer.claim_batch()
        try:
            victim.run([claim])
        except Killed:
            deaths += 1
            die(patient, client, claim)
    assert deaths == patient.settings.max_attempts
    rows = list(batches.results(batch.id))
    assert [row["index"] for row in rows if row["state"] != "succeeded"] == [40]
    assert rows[40]["error"]["code"] == "poison"
    assert [row["digit"] for row in rows if row["index"] != 40] == [at % 10 for at in range(100) if at != 40]
    assert client.hget(f"rq:job:{batch.id}-0", "status") == b"finished"


def test_two_that_kill_are_both_condemned_and_nobody_else(
    patient: Store, batches: Batches, client: redis.Redis
) -> None:
    images = [b"poison" if at in (3, 70) else b"5" for at in range(100)]
    batch = batches.submit(files(*images))

    def deadly(pictures: Pictures) -> Classified:
        if any(one == b"poison" for one in pictures):
            raise Killed
        return classify(pictures)

    for _ in range(20):
        victim = worker(patient)
        victim.classifier.classify = deadly
        for claim in victim.claimer.claim_batch():
            try:
                victim.run([claim])
            except Killed:
                die(patient, client, claim)
    assert [row["index"] for row in batches.results(batch.id) if row["state"] != "succeeded"] == [3, 70]
    assert batches.fetch(batch.id).state is BatchState.FINISHED


def test_a_chunk_in_which_workers_die_without_a_trace_ends(store: Store, batches: Batches, client: redis.Redis) -> None:
    batch = batches.submit(digits(5))
    for attempt in range(store.settings.max_attempts):
        die(store, client, take(store, f"dead-{attempt}"))
    burst(store)
    found = batches.fetch(batch.id)
    assert (found.state, found.failed) == (BatchState.FINISHED, 5)


def test_a_picture_that_takes_too_long_is_cut_and_its_neighbours_succeed(store: Store, client: redis.Redis) -> None:
    hasty = Store(client, replace(store.settings, job_timeout_seconds=1))
    batch = Batches(hasty).submit(files(b"1", b"slow", b"2"))
    burst(hasty)
    rows = list(Batches(hasty).results(batch.id))
    assert [row["digit"] for row in rows] == [1, None, 2]
    assert rows[1]["error"]["code"] == "timeout"


# ---------------------------------------------------------------------- fairness


def test_a_single_picture_overtakes_a_batch_between_two_slices(store: Store, batches: Batches) -> None:
    batch = batches.submit(digits(256))
    one = worker(store)
    [claim] = one.claimer.claim_batch()
    order: list[int] = []
    held: list[set[str]] = []

    def watching(pictures: Pictures) -> Classified:
        held.append({claim.id for claim in one.heartbeat_thread.claims})
        if not order:
            store.submit(b"9", id="single")
        order.append(len(pictures))
        return classify(pictures)

    one.classifier.classify = watching
    one.run([claim])
    assert order == [128, 1, 128]
    chunk = {f"{batch.id}-0"}
    assert held == [chunk, {*chunk, "single"}, chunk]  # nobody's lease runs out meanwhile
    assert store.fetch("single").digit == 9
    assert batches.fetch(batch.id).state is BatchState.FINISHED


def test_a_batch_moves_under_a_flood_of_single_pictures(store: Store, client: redis.Redis) -> None:
    small = Store(client, replace(store.settings, batch_max_size=4))
    batch = Batches(small).submit(digits(10))
    for _ in range(100):
        small.submit(b"7")
    one = worker(small)
    for _ in range(8):
        one.run(one.claimer.claim_batch())
    assert Batches(small).fetch(batch.id).state is BatchState.FINISHED
    assert client.llen("rq:queue:digitq") > 0


def test_a_worker_that_is_told_to_stop_gives_its_chunk_back_with_what_it_has(store: Store, batches: Batches) -> None:
    batch = batches.submit(digits(256))
    one = worker(store)

    def stop(pictures: Pictures) -> Classified:
        one._stop_requested = True
        return classify(pictures)

    one.classifier.classify = stop
    one.run(one.claimer.claim_batch())
    assert batches.fetch(batch.id).succeeded == 128
    [claim] = store.claim("next", keys.QUEUES, 64, "n")
    assert claim.attempt == 1  # it is not suspected of anything
    assert len(batches.progress(claim.id, "1").done) == 128


# ---------------------------------------------------------------------- all or nothing


@pytest.mark.parametrize("expected", [501, 0])
def test_a_batch_that_is_larger_than_the_queue_is_told_so_and_not_to_come_back(
    expected: int, store: Store, client: redis.Redis
) -> None:
    small = Store(client, replace(store.settings, queue_max_length=500))
    with pytest.raises(TooManyImages, match="501 images, and 500") as refused:
        Batches(small).submit(digits(501), expected)
    assert refused.value.extensions == {"limit": 500} and refused.value.status == 413
    assert client.keys() == []
    assert Batches(small).submit(digits(500), 500).total == 500


def test_the_api_answers_413_to_a_batch_that_is_larger_than_the_queue(store: Store, client: redis.Redis) -> None:
    small = Store(client, replace(store.settings, queue_max_length=5))
    with site(small) as http:
        answer = http.post("/v1/batches", data=struct.pack(">4I", 0x803, 6, 28, 28) + bytes(4704))
    assert (answer.status_code, answer.json["code"], answer.json["limit"]) == (413, "too_many_images", 5)  # type: ignore[index]
    assert "Retry-After" not in answer.headers


def test_a_full_queue_refuses_a_batch_before_its_bytes_are_stored(store: Store, client: redis.Redis) -> None:
    small = Store(client, replace(store.settings, queue_max_length=500))
    Batches(small).submit(digits(300))
    before = client.dbsize()
    asked = False

    def never() -> Any:
        nonlocal asked
        asked = True
        yield from digits(300)

    with pytest.raises(QueueFull):
        Batches(small).submit(never(), 300)
    assert (asked, client.dbsize()) == (False, before)
    with pytest.raises(QueueFull):
        Batches(small).submit(digits(300))
    assert client.dbsize() == before
    assert small.submit(b"7").state.value == "queued"  # a single picture is not refused for a batch


def test_a_batch_that_breaks_off_leaves_nothing_behind(batches: Batches, client: redis.Redis) -> None:
    def broken() -> Any:
        yield from digits(300)
        raise OSError("the connection is gone")

    with pytest.raises(OSError, match="gone"):
        batches.submit(broken())
    assert client.keys("*") == []


def test_a_full_redis_still_ends_what_it_has_accepted(store: Store, batches: Batches, client: redis.Redis) -> None:
    batch = batches.submit(digits(600))
    one = worker(store)
    one.register_birth()
    client.config_set("maxmemory", 1)
    try:
        for _ in range(3):
            one.run(one.claimer.claim_batch())
        assert batches.fetch(batch.id).succeeded == 600
    finally:
        client.config_set("maxmemory", 0)


def test_the_same_key_gives_the_same_batch_and_another_upload_under_it_is_refused(
    store: Store, client: redis.Redis
) -> None:
    small = Batches(Store(client, replace(store.settings, queue_max_length=400)))
    first = small.submit(digits(300), 300, idempotency_key="k", fingerprint="f")
    keys_before = client.dbsize()
    assert small.submit(digits(300), 300, idempotency_key="k", fingerprint="f").id == first.id  # full, and yet
    with pytest.raises(IdempotencyMismatch):
        small.submit(digits(10), 10, idempotency_key="k", fingerprint="other")
    with pytest.raises(IdempotencyMismatch):
        small._store.submit(b"7", idempotency_key="k")
    assert client.dbsize() == keys_before


# ---------------------------------------------------------------------- taking back, and RQ's tools


def test_cancel_removes_queued_chunks_and_lets_running_ones_finish(store: Store, batches: Batches) -> None:
    batch = batches.submit(digits(600))
    one = worker(store)
    claims = one.claimer.claim_batch()
    batches.cancel(batch.id)
    with pytest.raises(StillRunning):
        batches.cancel(batch.id)
    assert batches.fetch(batch.id).state is BatchState.RUNNING
    one.run(claims)
    found = batches.fetch(batch.id)
    assert (found.state, found.succeeded, found.cancelled) == (BatchState.CANCELLED, 256, 344)
    states = [row["state"] for row in batches.results(batch.id)]
    assert states == ["succeeded"] * 256 + ["cancelled"] * 344


def test_a_batch_that_has_ended_is_forgotten(store: Store, batches: Batches, client: redis.Redis) -> None:
    batch = batches.submit(digits(600))
    burst(store)
    batches.cancel(batch.id)
    with pytest.raises(NotFound):
        batches.fetch(batch.id)
    assert [key for key in client.keys("*") if batch.id.encode() in key] == [keys.batch(batch.id).encode()]


@pytest.mark.parametrize(("tool", "state", "code"), [("delete", "failed", "lost"), ("cancel", "cancelled", None)])
def test_chunks_ended_by_rq_tools_are_ended_for_every_reader(
    tool: str, state: str, code: str | None, batches: Batches, client: redis.Redis
) -> None:
    batch = batches.submit(digits(300))
    for n in range(2):
        getattr(Job.fetch(f"{batch.id}-{n}", connection=client, serializer="json"), tool)()
    found = batches.fetch(batch.id)
    assert (found.state.terminal, found.failed + found.cancelled) == (True, 300)
    assert {(row["state"], (row["error"] or {}).get("code")) for row in batches.results(batch.id)} == {(state, code)}


def test_a_waiting_client_is_notified_soon_after_the_end(
    store: Store, batches: Batches, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = batches.submit(digits(300))
    told, looked = list[tuple[BatchState, float]](), list[str]()
    state = batches._state
    monkeypatch.setattr(batches, "_state", lambda id: looked.append(id) or state(id))  # type: ignore[func-returns-value]
    thread = threading.Thread(target=lambda: told.append((batches.wait(batch.id, 10).state, time.monotonic())))
    thread.start()
    until(lambda: looked)
    one = worker(store)
    for _ in range(2):
        one.run(one.claimer.claim_batch())
    end = time.monotonic()
    thread.join()
    assert told[0][0] is BatchState.FINISHED
    assert told[0][1] - end < 0.3


def test_a_waiting_client_asks_less_often_the_longer_it_has_waited(
    batches: Batches, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, clock = batches.submit(digits(1)), SimpleNamespace(now=0.0)
    monkeypatch.setattr(shared_batches, "time", SimpleNamespace(monotonic=lambda: clock.now))
    looks, pauses = batches.looks(batch.id), list[float]()
    for clock.now in (0.0, 0.4, 1.0, 3.0):
        pauses.append(next(looks)[1])
    assert pauses == pytest.approx([0.02, 0.02, 0.05, 0.1])


def test_a_queued_picture_costs_redis_little_beyond_its_bytes(batches: Batches, client: redis.Redis) -> None:
    before = client.info("memory")["used_memory"]
    batches.submit(raw(bytes(256 * 784), 28, 28) for _ in range(20))
    each = (client.info("memory")["used_memory"] - before) / (20 * 256) - 784
    assert each < 300


# ---------------------------------------------------------------------- HTTP


@pytest.fixture
def http(store: Store) -> Iterator[WebClient]:
    with site(store) as web:
        yield web


def idx(greys: np.ndarray[Any, Any]) -> bytes:
    return struct.pack(">4I", 0x803, *greys.shape) + greys.astype(np.uint8).tobytes()


def rows(http: WebClient, id: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in http.get(f"/v1/batches/{id}/results").text.splitlines()]


GREYS = np.arange(300 * 6, dtype=np.uint8).reshape(300, 2, 3)


@pytest.mark.parametrize("wrap", [bytes, gzip.compress])
def test_an_idx_file_is_a_batch(wrap: Any, http: WebClient, store: Store) -> None:
    answer = http.post("/v1/batches", data=wrap(idx(GREYS)), content_type="application/octet-stream")
    body = answer.json
    assert (answer.status_code, answer.headers["Location"]) == (202, f"/v1/batches/{body['id']}")
    assert (body["total"], body["state"], body["succeeded"]) == (300, "queued", 0)
    burst(store)
    body = http.get(f"/v1/batches/{body['id']}?wait=5").json
    assert (body["state"], body["succeeded"]) == ("finished", 300)
    assert [row["digit"] for row in rows(http, body["id"])] == [int(grey[0, 0]) % 10 for grey in GREYS]


def test_a_zip_is_a_batch(http: WebClient, store: Store) -> None:
    data = zip_of(("d/", b""), ("d/one.png", seven()), ("__MACOSX/d/._one.png", b"x"), ("notes.png", b"hello"),
                   (".DS_Store", b"x"), ("../=two.png", seven(56)))  # fmt: skip
    body = http.post("/v1/batches", data=data, content_type="application/zip").json
    id = body["id"]
    assert (body["total"], body["skipped"]) == (3, 2)
    assert [(row["filename"], row["state"]) for row in rows(http, id)] == [
        ("d/one.png", "queued"), ("notes.png", "queued"), ("=two.png", "queued")
    ]  # fmt: skip
    one = worker(store)
    one.classifier.classify = lambda images: Classified([fakes.outcome(7) for _ in images], 0, 0)
    one.work(burst=True)
    found = rows(http, id)
    assert [row["digit"] for row in found] == [7, None, 7]
    assert found[1]["error"]["code"] == "unsupported_type"
    text = http.get(f"/v1/batches/{id}/results", headers={"Accept": "text/csv"})
    lines = text.text.splitlines()
    assert text.content_type == "text/csv; charset=utf-8"
    assert lines[0] == "index,filename,state,digit,confidence,decision,reason,warnings,error,error_message"
    assert lines[1] == "0,d/one.png,succeeded,7,0.91,accept,,inverted,,"
    assert lines[3].startswith("2,'=two.png,succeeded,7,")


def test_csv_has_a_byte_order_mark_on_request(http: WebClient) -> None:
    id = http.post("/v1/batches", data={"file": [(io.BytesIO(seven()), "Größe.png")]}).json["id"]
    url, accept = f"/v1/batches/{id}/results", {"Accept": "text/csv"}
    plain = http.get(f"{url}?bom=0", headers=accept).data
    assert plain == http.get(url, headers=accept).data and "Größe.png".encode() in plain
    assert http.get(f"{url}?bom=1", headers=accept).data == "\ufeff".encode() + plain
    for query, headers in (("bom=1", {}), ("bom=yes", accept), ("bom=", accept)):
        answer = http.get(f"{url}?{query}", headers=headers)
        assert (answer.status_code, answer.json["code"]) == (400, "bad_request")


def test_a_form_with_several_files_is_a_batch(http: WebClient, store: Store) -> None:
    parts = [(io.BytesIO(seven(28 + n)), f"{n}.png") for n in range(3)] + [(io.BytesIO(b"text"), "no.txt")]
    answer = http.post("/v1/batches", data={"file": parts})
    assert (answer.status_code, answer.json["total"]) == (202, 4)
    assert [row["filename"] for row in rows(http, answer.json["id"])] == ["0.png", "1.png", "2.png", "no.txt"]


def test_a_zip_sent_by_a_form_is_what_is_in_it(http: WebClient) -> None:
    data = zip_of(("a.png", seven()), ("b.png", seven()))
    assert http.post("/v1/batches", data={"file": (io.BytesIO(data), "all.zip")}).json["total"] == 2


def test_who_prefers_to_wait_is_answered_with_202_where_the_end_does_not_come(http: WebClient) -> None:
    slow = http.post("/v1/batches", data=idx(GREYS), headers={"Prefer": "wait=1"})
    assert (slow.status_code, slow.json["state"], slow.headers["Preference-Applied"]) == (202, "queued", "wait=1")


def test_a_process_that_stops_lets_nobody_wait_for_a_batch(http: WebClient) -> None:
    id = http.post("/v1/batches", data=idx(GREYS)).json["id"]
    threading.Timer(0.2, http.call, [http.services.waiting.stop]).start()
    start = time.monotonic()
    assert http.get(f"/v1/batches/{id}?wait=10").json["state"] == "queued"
    assert time.monotonic() - start < 8


def test_a_batch_is_taken_back_over_http(http: WebClient) -> None:
    id = http.post("/v1/batches", data=idx(GREYS)).json["id"]
    assert http.delete(f"/v1/batches/{id}").status_code == 204
    assert http.get(f"/v1/batches/{id}").json["state"] == "cancelled"
    assert http.delete(f"/v1/batches/{id}").status_code == 204
    assert http.get(f"/v1/batches/{id}").status_code == 404


def test_priority_and_idempotency_are_honoured(http: WebClient, client: redis.Redis) -> None:
    headers = {"Idempotency-Key": '"k"'}
    first = http.post("/v1/batches?priority=high", data=idx(GREYS), headers=headers).json["id"]
    assert http.post("/v1/batches?priority=high", data=idx(GREYS), headers=headers).json["id"] == first
    assert client.llen(keys.queue(Priority.HIGH.queue)) == 2
    other = http.post("/v1/batches", data=idx(GREYS[:5]), headers=headers)
    assert (other.status_code, other.json["code"]) == (422, "idempotency_mismatch")
    assert http.post("/v1/batches?priority=urgent", data=idx(GREYS)).status_code == 400


BAD: dict[str, tuple[bytes, int, str]] = {
    "nothing": (b"", 400, "empty_batch"),
    "a picture": (png(), 415, "unsupported_type"),
    "text": (b"hi", 415, "unsupported_type"),
    "gzip of text": (gzip.compress(b"hello"), 415, "unsupported_type"),
    "labels": (struct.pack(">2I", 0x801, 2) + b"12", 422, "malformed_batch"),
    "a cut head": (idx(GREYS)[:10], 422, "malformed_batch"),
    "a cut body": (idx(GREYS)[:-1], 422, "malformed_batch"),
    "more than announced": (idx(GREYS) + b"x", 422, "malformed_batch"),
    "a cut gzip": (gzip.compress(idx(GREYS))[:-9], 422, "malformed_batch"),
    "a damaged gzip": (gzip.compress(idx(GREYS))[:-8] + bytes(8), 422, "malformed_batch"),
    "no images": (struct.pack(">4I", 0x803, 0, 28, 28), 400, "empty_batch"),
    "images without pixels": (struct.pack(">4I", 0x803, 5, 0, 28), 422, "malformed_batch"),
    "too many images": (struct.pack(">4I", 0x803, 1001, 1, 1) + bytes(1001), 413, "too_many_images"),
    "too many pixels": (struct.pack(">4I", 0x803, 1, 100_000, 100_000), 422, "too_many_pixels"),
    "a bomb": (gzip.compress(struct.pack(">4I", 0x803, 1000, 700, 700)), 413, "too_large"),
    "a gzip that goes on for ever": (gzip.compress(idx(GREYS) + bytes(50_000_000)), 422, "malformed_batch"),
    "an empty zip": (zip_of(), 400, "empty_batch"),
    "a cut zip": (zip_of(("a.png", seven()))[:-5], 422, "malformed_batch"),
    "a zip of too many": (zip_of(*((f"{n}", b"") for n in range(1001))), 413, "too_many_images"),
    "a zip of very many": (zip_of(*((f"{n}", b"") for n in range(2500))), 413, "too_many_images"),
    "too much": (bytes(3_000_001), 413, "too_large"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_batch_is_refused_whole_with_its_name(name: str, store: Store, client: redis.Redis) -> None:
    tight = replace(store.settings, batch_max_images=1000, batch_max_bytes=3_000_000)
    data, status, code = BAD[name]
    with site(Store(client, tight)) as http:
        answer = http.post("/v1/batches", data=data)
    assert (answer.status_code, (answer.json or {}).get("code")) == (status, code)
    assert answer.content_type == "application/problem+json"
    assert client.keys("digitq:*") == []


def test_a_bomb_in_a_zip_fails_alone_and_too_many_of_them_the_batch(store: Store, client: redis.Redis) -> None:
    tight = replace(store.settings, max_upload_bytes=1_000_000, batch_max_bytes=3_000_000)
    with site(Store(client, tight)) as http:
        one = http.post("/v1/batches", data=zip_of(("bomb", bytes(20_000_000)), ("a.png", seven())))
        assert one.status_code == 202
        burst(Store(client, tight))
        assert rows(http, one.json["id"])[0]["error"]["code"] == "too_large"
        many = http.post("/v1/batches", data=zip_of(*((f"{n}", bytes(900_000)) for n in range(5))))
        assert (many.status_code, many.json["code"]) == (413, "too_large")


def test_an_encrypted_or_strangely_packed_member_fails_alone(http: WebClient, store: Store) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("lzma.png", seven(), zipfile.ZIP_LZMA)
        file.writestr("secret.png", seven())
        file.writestr("plain.png", seven() + b"7")
    data = bytearray(out.getvalue())
    for flags in (data.index(b"secret.png") - 24, data.rindex(b"secret.png") - 38):  # in both of its headers
        data[flags] |= 1
    answer = http.post("/v1/batches", data=bytes(data))
    burst(store)
    found = [(row["state"], (row["error"] or {}).get("code")) for row in rows(http, answer.json["id"])]
    assert found == [("failed", "undecodable_image")] * 2 + [("succeeded", None)]


def test_a_form_that_breaks_off_leaves_nothing_behind(http: WebClient, client: redis.Redis) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n' + seven()
    answer = http.post("/v1/batches", data=body, content_type="multipart/form-data; boundary=x")
    assert (answer.status_code, answer.json["code"]) == (400, "bad_request")
    assert client.keys("digitq:*") == []


def test_a_form_without_a_file_is_refused(http: WebClient) -> None:
    empty = http.post("/v1/batches", data=b"--x--\r\n", content_type="multipart/form-data; boundary=x")
    assert (empty.status_code, empty.json["code"]) == (400, "no_image")


def test_an_id_that_never_was_is_not_found(http: WebClient) -> None:
    assert [http.get(f"/v1/batches/nobody{tail}").status_code for tail in ("", "?wait=1", "/results")] == [404] * 3
    assert http.delete("/v1/batches/nobody").status_code == 404


def test_a_chunk_is_closed_by_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "MAX_BYTES", 10)
    images: Sequence[bytes] = [b"1" * size for size in (4, 6, 1, 2, 20, 3)]
    assert [chunk.count for chunk in files(*images)] == [2, 2, 1, 1]


def test_requests_that_wait_for_a_batch_are_limited_and_each_frees_its_slot(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "MAX_BATCH_WAITS", 2)
    with site(store) as http:
        slots = http.services.batch_waits

        def asked() -> tuple[str, Future[Proto]]:
            """A new batch, and a request that waits for its end."""
            path = f"/v1/batches/{http.post('/v1/batches', data=zip_of(('a.png', seven()))).json['id']}"
            return path, http.here.begin("GET", path, query="wait=20")

        def ends_with_the_batch(one: Future[Proto]) -> bool:
            return json.loads(one.result(30).body())["state"] == "finished"

        (path, first), (_, second) = asked(), asked()
        until(lambda: slots._value == 0, 10)
        turned_away = http.here.ask("GET", path, query="wait=20")
        assert json.loads(turned_away.body())["state"] == "queued"
        assert not first.done() and not second.done()
        burst(store)
        assert ends_with_the_batch(first) and ends_with_the_batch(second)
        for _ in range(3):
            _, later = asked()
            until(lambda: slots._value == 1, 10)
            assert not later.done()
            burst(store)
            assert ends_with_the_batch(later)
        until(lambda: slots._value == 2, 10)


def test_a_batch_says_when_to_come_back_until_it_has_ended(http: WebClient, store: Store) -> None:
    created = http.post("/v1/batches", data=zip_of(("a.png", seven())))
    path = created.headers["Location"]
    assert created.headers["Retry-After"] == http.get(path).headers["Retry-After"] == "1"
    burst(store)
    ended = http.get(path)
    assert ended.json["state"] == "finished" and "Retry-After" not in ended.headers


def test_a_batch_has_no_callback_url(http: WebClient, client: redis.Redis) -> None:
    answer = http.post("/v1/batches?callback_url=https://example.com/", data=zip_of(("a.png", seven())))
    assert (answer.status_code, answer.json["code"]) == (400, "bad_request")
    assert client.keys("digitq:*") == []


def test_results_are_sent_in_pieces_of_a_few_hundred(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_batches, "RESULTS_AT_ONCE", 2)
    assert list(web_batches.in_pieces("abcde")) == ["ab", "cd", "e"]
    assert list(web_batches.in_pieces("")) == [""]


def test_results_are_never_cached(http: WebClient) -> None:
    path = http.post("/v1/batches", data=zip_of(("a.png", seven()))).headers["Location"]
    headers = http.get(f"{path}/results").headers
    assert (headers["Cache-Control"], headers["X-Total-Count"]) == ("no-store", "1")


def test_downloads_are_counted_while_they_run(http: WebClient) -> None:
    path = http.post("/v1/batches", data=zip_of(("a.png", seven()))).headers["Location"]
    downloads = http.services.downloads
    for _ in range(services.MAX_DOWNLOADS):
        assert downloads.acquire(blocking=False)
    refused = http.get(f"{path}/results")
    assert (refused.status_code, refused.json["code"]) == (503, "too_many_downloads")
    downloads.release()
    for _ in range(3):  # each gives its place back
        until(lambda: http.get(f"{path}/results").status_code == 200, 10)


def test_a_data_url_and_a_zip_among_the_files_of_a_form_are_files_of_their_own(http: WebClient, store: Store) -> None:
    url = f"data:image/png;base64,{b64encode(seven()).decode()}".encode()
    inner = zip_of(("a.png", seven()), ("b.png", seven()))
    form = {"file": [(io.BytesIO(data), name) for name, data in (("zip", inner), ("url", url), ("bad", b"data:x,"))]}
    id = http.post("/v1/batches", data=form).json["id"]
    burst(store)
    found = [(row["filename"], row["error"] and row["error"]["code"]) for row in rows(http, id)]
    assert [found[0], found[2]] == [("zip", "unsupported_type"), ("bad", "invalid_base64")]
    assert found[1][1] == "internal_error"  # it is read, and the stand-in for the model can read no picture


@pytest.mark.parametrize("begins", ["=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20"])
def test_a_cell_that_looks_like_a_formula_is_text(begins: str) -> None:
    assert csv_rows.csv_line([f"{begins}1", "a=1", -1]).replace('"', "") == f"'{begins}1,a=1,-1\r\n"


def test_a_byte_order_mark_is_for_new_files_alone(tmp_path: Path) -> None:
    path = tmp_path / "found.csv"
    with path.open("w", encoding="utf-8") as new:
        assert csv_rows.mark(new) == csv_rows.BOM
    path.write_text("something")
    with path.open("a", encoding="utf-8") as begun, path.open("r+", encoding="latin-1") as other:
        assert csv_rows.mark(begun) == csv_rows.mark(other) == csv_rows.mark(io.StringIO()) == ""
    read, write = os.pipe()
    with os.fdopen(write, "w", encoding="utf-8") as pipe, os.fdopen(read):
        assert csv_rows.mark(pipe) == ""
