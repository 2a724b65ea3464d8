"""Tests of the progress of chunks and batches: starts, results, deaths, ends, and jobs that RQ alone has moved."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import redis
from rq.job import Job

from shared import keys
from shared.batch import BatchState
from shared.batches import Batches
from shared.chunk_record import Row
from shared.chunk_runs import DEPENDENTS, ChunkRuns, Held
from shared.chunks import Item, packed
from shared.claims import Claim
from shared.errors import Expired
from shared.store import Store

TTL = 600
SEVEN: Row = (7, 0.9, "accept", None, [])
WRONG: Row = ("undecodable_image", "The image cannot be decoded")


@pytest.fixture
def short(store: Store) -> Store:
    """With a time to live that no other number looks like."""
    return Store(store.client, replace(store.settings, result_ttl_seconds=TTL))


@pytest.fixture
def batches(short: Store) -> Batches:
    return Batches(short)


@pytest.fixture
def runs(short: Store) -> ChunkRuns:
    return ChunkRuns(short)


def submit(batches: Batches, chunks: int = 1, each: int = 3, **options: Any) -> str:
    pictures = [one for _ in range(chunks) for one in packed([Item("a.png", b"1234567")] * each)]
    return batches.submit(pictures, **options).id


def take(store: Store) -> Claim:
    [claim] = store.claim("w", keys.QUEUES, 64, "n")
    return claim


def rows(*at: int, row: Row = SEVEN) -> dict[int, Row]:
    return dict.fromkeys(at, row)


def near(seconds: float) -> Any:
    return pytest.approx(seconds, abs=2)


# ---------------------------------------------------------------------- starts


def test_the_first_start_of_a_chunk_starts_its_batch_and_the_others_do_not(
    short: Store, batches: Batches, client: redis.Redis
) -> None:
    id = submit(batches, chunks=2, notes={"request_id": "r"})
    names = [keys.batch(id), keys.results(f"{id}-0"), keys.chunk(f"{id}-0")]
    for key in names:
        client.expire(key, 5)
    claim = take(short)
    assert [client.ttl(key) for key in names] == [near(2 * TTL)] * 3
    assert (claim.asked()["request_id"], claim.submitted_at) == (
        "r", client.hget(keys.batch(id), "submitted_at").decode()
    )  # fmt: skip
    first = batches.fetch(id)
    assert first.state is BatchState.RUNNING and first.started_at == near(short.time())
    client.hset(keys.batch(id), "started_at", "2026-01-01T00:00:00.000000Z")
    take(short)
    assert batches.fetch(id).started_at == 1767225600.0


def test_of_a_chunk_that_has_ended_or_whose_batch_is_gone_there_is_nothing_to_run(
    batches: Batches, runs: ChunkRuns, client: redis.Redis
) -> None:
    ended, orphan = submit(batches), submit(batches)
    runs.finish(f"{ended}-0", runs.start(f"{ended}-0"), rows(0, 1, 2))
    client.delete(keys.batch(orphan))
    assert [runs.start(f"{id}-0") for id in (ended, orphan, "nobody")] == ["0", "0", "0"]
    assert client.hget(keys.results(f"{orphan}-0"), "attempt") is None


def test_a_start_blames_the_picture_that_ran_alone_or_else_the_chunk(batches: Batches, runs: ChunkRuns) -> None:
    chunk = f"{submit(batches)}-0"
    assert runs.start(chunk) == "1"
    assert runs.progress(chunk, "1").stalls == 0
    assert runs.start(chunk) == "2"  # whoever started it first has died somewhere in it
    assert runs.progress(chunk, "2").stalls == 1
    for attempt, deaths in (("3", 1), ("4", 2)):
        runs.note(chunk, str(int(attempt) - 1), {}, suspect="2")
        assert runs.start(chunk) == attempt
        progress = runs.progress(chunk, attempt)
        assert (progress.deaths, progress.stalls) == ({2: deaths}, 1)
    assert runs.start(chunk) == "5"  # nobody is suspected any more
    assert (runs.progress(chunk, "5").deaths, runs.progress(chunk, "5").stalls) == ({2: 2}, 2)


# ---------------------------------------------------------------------- results


def test_results_are_counted_once_although_they_are_noted_twice(
    batches: Batches, runs: ChunkRuns, client: redis.Redis
) -> None:
    id = submit(batches)
    attempt = runs.start(f"{id}-0")
    runs.start(f"{id}-0")
    attempt = "2"
    for _ in range(2):  # the answer to the first was lost
        assert runs.note(f"{id}-0", attempt, {0: SEVEN, 1: WRONG})
    found = batches.fetch(id)
    assert (found.succeeded, found.failed) == (1, 1)
    progress = runs.progress(f"{id}-0", attempt)
    assert (progress.count, progress.done, progress.stalls) == (3, {0, 1}, 0)
    [flow] = client.keys("digitq:flow:*")
    assert client.hget(flow, "ended") == b"2"


def test_who_started_a_chunk_before_another_writes_nothing_even_without_a_lease(
    batches: Batches, runs: ChunkRuns
) -> None:
    id = submit(batches)
    late, now = runs.start(f"{id}-0"), runs.start(f"{id}-0")
    assert not runs.note(f"{id}-0", late, rows(0))
    assert runs.finish(f"{id}-0", late, rows(0, 1, 2)) == 0
    assert (batches.fetch(id).succeeded, runs.progress(f"{id}-0", now).done) == (0, set())
    assert runs.note(f"{id}-0", now, rows(0))


def test_an_ended_chunk_takes_no_further_results(batches: Batches, runs: ChunkRuns) -> None:
    id = submit(batches)
    attempt = runs.start(f"{id}-0")
    assert runs.finish(f"{id}-0", attempt, rows(0, 1, 2)) == 1
    assert runs.finish(f"{id}-0", attempt, rows(0, 1, 2, row=WRONG)) == 0
    assert not runs.note(f"{id}-0", attempt, rows(0, row=WRONG))
    assert [row["digit"] for row in batches.results(id)] == [7, 7, 7]


def test_a_suspect_is_named_until_the_next_result(batches: Batches, runs: ChunkRuns, client: redis.Redis) -> None:
    chunk = f"{submit(batches)}-0"
    attempt = runs.start(chunk)
    runs.note(chunk, attempt, {}, suspect="1")
    assert client.hget(keys.results(chunk), "suspect") == b"1"
    runs.note(chunk, attempt, rows(1))
    assert client.hget(keys.results(chunk), "suspect") is None


def test_results_of_a_batch_whose_record_is_gone_harm_nobody(
    batches: Batches, runs: ChunkRuns, client: redis.Redis
) -> None:
    id = submit(batches)
    attempt = runs.start(f"{id}-0")
    client.delete(keys.batch(id))
    assert runs.note(f"{id}-0", attempt, rows(0))
    assert runs.finish(f"{id}-0", attempt, rows(1, 2)) == 1
    assert not client.exists(keys.batch(id))


# ---------------------------------------------------------------------- ends


def test_a_batch_that_has_ended_lives_for_its_time_and_is_listed_among_the_ends(
    short: Store, batches: Batches, runs: ChunkRuns, client: redis.Redis
) -> None:
    id = submit(batches, chunks=2, idempotency_key="k")
    for n in range(2):
        runs.finish(f"{id}-{n}", runs.start(f"{id}-{n}"), rows(0, 1))
    found = batches.fetch(id)
    assert (found.state, found.succeeded, found.failed) == (BatchState.FINISHED, 4, 2)
    assert found.finished_at == near(short.time())
    names = [keys.batch(id), keys.results(f"{id}-0"), keys.results(f"{id}-1"), "digitq:idempotency:k"]
    assert [client.ttl(key) for key in names] == [near(TTL)] * 4
    assert [fields for _, fields in client.xrange("digitq:ended")] == [{b"batch": id.encode()}]
    assert not client.exists(keys.OPEN, keys.BULK)
    assert [row["error"] and row["error"]["code"] for row in batches.results(id)][:3] == [None, None, "lost"]


def test_a_chunk_frees_its_bytes_and_its_places_with_its_end(
    batches: Batches, runs: ChunkRuns, client: redis.Redis
) -> None:
    id = submit(batches, chunks=2)
    size = client.strlen(keys.chunk(f"{id}-0"))
    assert (client.get(keys.BULK), client.hvals("digitq:bytes")) == (b"4", [str(2 * size).encode()])
    runs.finish(f"{id}-0", runs.start(f"{id}-0"), rows(0, 1, 2))
    assert (client.get(keys.BULK), client.hvals("digitq:bytes")) == (b"2", [str(size).encode()])
    assert not client.exists(keys.chunk(f"{id}-0")) and client.exists(keys.chunk(f"{id}-1"))
    assert (batches.fetch(id).state, batches.fetch(id).succeeded) == (BatchState.RUNNING, 3)


def test_a_chunk_that_failed_keeps_its_pictures_for_an_operator_who_puts_it_back(
    batches: Batches, runs: ChunkRuns, client: redis.Redis
) -> None:
    id = submit(batches)
    runs.finish(f"{id}-0", runs.start(f"{id}-0"), rows(0))
    assert client.ttl(keys.chunk(f"{id}-0")) == near(TTL)


def test_who_ends_a_chunk_under_a_lease_ends_its_job_although_the_chunk_had_ended(
    short: Store, batches: Batches, runs: ChunkRuns, client: redis.Redis
) -> None:
    id = submit(batches)
    claim = take(short)
    assert runs.finish(f"{id}-0", "1", rows(0, 1, 2)) == 1
    client.sadd(f"rq:job:{id}-0:dependents", "d")
    assert runs.finish(f"{id}-0", "1", {}, Held("w", claim), 0.5) == DEPENDENTS
    job = Job.fetch(f"{id}-0", connection=client, serializer="json")
    assert (job.get_status().value, job.return_value()) == ("finished", {"batch": id, "chunk": f"{id}-0"})
    assert (batches.fetch(id).succeeded, client.exists("rq:wip:digitq-low")) == (3, 0)
    assert client.hmget("rq:worker:w", "successful_job_count", "total_working_time") == [b"1", b"0.5"]


def test_a_chunk_without_dependents_ends_with_its_job(short: Store, batches: Batches, runs: ChunkRuns) -> None:
    id = submit(batches)
    assert runs.finish(f"{id}-0", "1", rows(0, 1, 2), Held("w", take(short))) == 1


@pytest.mark.parametrize(
    ("status", "state", "code"),
    [("failed", "failed", "poison"), ("stopped", "failed", "poison"), ("finished", "failed", "lost"),
     ("canceled", "cancelled", None)],
)  # fmt: skip
def test_a_chunk_ends_as_rq_has_ended_its_job(
    status: str, state: str, code: str | None, batches: Batches, runs: ChunkRuns, client: redis.Redis
) -> None:
    id = submit(batches, chunks=2)
    runs.note(f"{id}-0", runs.start(f"{id}-0"), rows(0))
    client.persist(f"rq:job:{id}-0")
    client.hset(f"rq:job:{id}-0", "status", status)
    found = batches.fetch(id)
    counts = (found.succeeded, found.failed, found.cancelled)
    assert (found.state, counts) == (BatchState.RUNNING, (1, 2, 0) if state == "failed" else (1, 0, 2))
    ends = [(row["state"], (row["error"] or {}).get("code")) for row in batches.results(id)][:3]
    assert ends == [("succeeded", None), (state, code), (state, code)]
    assert client.ttl(f"rq:job:{id}-0") == (near(TTL) if status == "canceled" else -1)


def test_a_batch_that_rq_has_ended_ends_once(batches: Batches, client: redis.Redis) -> None:
    id = submit(batches, chunks=2)
    client.delete(f"rq:job:{id}-0", f"rq:job:{id}-1")
    assert batches.fetch(id).state is BatchState.FINISHED
    assert client.xlen("digitq:ended") == 1


def test_a_chunk_that_a_recovery_has_put_back_is_queued_for_every_reader(
    short: Store, batches: Batches, client: redis.Redis
) -> None:
    id = submit(batches)
    take(short)
    assert {row["state"] for row in batches.results(id)} == {"running"}
    client.hset(f"rq:job:{id}-0", "status", "queued")
    assert {row["state"] for row in batches.results(id)} == {"queued"}


def test_a_batch_of_which_some_is_cancelled_is_cancelled_once_the_rest_has_ended(
    short: Store, batches: Batches, runs: ChunkRuns
) -> None:
    id = submit(batches, chunks=3)
    claim = take(short)
    batches.cancel(id)
    assert (batches.fetch(id).state, batches.fetch(id).cancelled) == (BatchState.RUNNING, 6)
    runs.finish(claim.id, "1", rows(0, 1), Held("w", claim))
    found = batches.fetch(id)
    assert (found.state, found.succeeded, found.failed, found.cancelled) == (BatchState.CANCELLED, 2, 1, 6)


def test_results_of_a_batch_that_is_deleted_while_they_are_read_end_with_an_error(
    batches: Batches, client: redis.Redis
) -> None:
    id = submit(batches, chunks=2)
    reading = batches.results(id)
    assert next(reading)["index"] == 0
    client.delete(*client.keys(f"*{id}*"))
    with pytest.raises(Expired, match="while its results were read"):
        list(reading)
