"""The protocol between producer and Redis."""

from __future__ import annotations

from base64 import b64decode
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import redis
from rq import Queue as RQQueue
from rq.job import Job

from shared import keys
from shared.batches import Batches
from shared.chunks import Chunk, Item, packed
from shared.claims import Finish, Ran
from shared.errors import Expired, IdempotencyMismatch, Lost, NotFound, QueueFull, StillRunning
from shared.ids import issued_at, new_id
from shared.keys import Priority
from shared.prediction import Prediction, State
from shared.store import Store
from tests.answering import finish
from tests.fakes import outcome
from worker.queue.jobs import finish as finished


def test_a_submitted_picture_is_queued_with_its_place_in_the_queue(store: Store) -> None:
    store.submit(b"1")
    second = store.submit(b"2", "b.png")
    found = store.fetch(second.id)
    assert (found.state, found.filename, found.queue_position, found.attempt) == (State.QUEUED, "b.png", 1, 0)
    assert found.submitted_at == pytest.approx(second.submitted_at, abs=0.001)


def test_a_submitted_picture_is_an_ordinary_rq_job(store: Store, client: redis.Redis) -> None:
    id = store.submit(b"1", priority=Priority.HIGH).id
    job = Job.fetch(id, connection=client, serializer="json")
    assert (job.func_name, job.args, job.kwargs) == (keys.JOB_FUNCTION, [id], {})
    assert (job.origin, job.get_status().value, job.retries_left) == ("digitq-high", "queued", 2)
    assert RQQueue("digitq-high", connection=client, serializer="json").job_ids == [id]


def test_submitting_the_same_id_twice_is_one_picture(store: Store, client: redis.Redis) -> None:
    id = new_id()
    assert store.submit(b"1", id=id).id == store.submit(b"1", id=id).id == id
    assert client.llen("rq:queue:digitq") == 1


def test_an_idempotency_key_gives_the_first_prediction_again(store: Store, client: redis.Redis) -> None:
    first = store.submit(b"1", idempotency_key="k")
    assert store.submit(b"1", idempotency_key="k").id == first.id
    with pytest.raises(IdempotencyMismatch):
        store.submit(b"2", idempotency_key="k")
    assert client.llen("rq:queue:digitq") == 1


def test_an_idempotency_key_is_free_again_once_its_prediction_is_gone(store: Store, client: redis.Redis) -> None:
    first = store.submit(b"1", idempotency_key="k")
    finish(store)
    store.cancel(first.id)
    second = store.submit(b"2", idempotency_key="k")
    assert second.id != first.id
    Job.fetch(second.id, connection=client, serializer="json").delete()
    assert store.submit(b"3", idempotency_key="k").state is State.QUEUED


def test_a_full_queue_refuses_before_anything_is_stored(store: Store, client: redis.Redis) -> None:
    small = Store(client, replace(store.settings, queue_max_length=2))
    small.submit(b"1")
    small.submit(b"2", priority=Priority.LOW)
    before = client.dbsize()
    with pytest.raises(QueueFull) as caught:
        small.submit(b"3", priority=Priority.HIGH)
    assert caught.value.extensions["limit"] == 2
    assert client.dbsize() == before


def test_claims_prefer_the_first_queue_and_hold_the_picture(store: Store) -> None:
    low, normal, high = (store.submit(p.encode(), priority=Priority(p)) for p in ("low", "normal", "high"))
    claims = store.claim("w", keys.QUEUES, 2, "n")
    assert [claim.id for claim in claims] == [high.id, normal.id]
    assert [claim.image for claim in claims] == [b"high", b"normal"]
    assert store.fetch(high.id).state is State.RUNNING
    assert store.fetch(low.id).state is State.QUEUED


def test_a_worker_is_busy_until_it_finds_nothing_to_claim(store: Store, client: redis.Redis) -> None:
    def state_after_claim() -> tuple[int, bytes | None]:
        return len(store.claim("w", keys.QUEUES, 1, "n")), client.hget(keys.worker("w"), "state")

    assert state_after_claim() == (0, None)  # RQ's hash of a worker is not made by a claim of nothing
    store.submit(b"7")
    assert [state_after_claim() for _ in range(2)] == [(1, b"busy"), (0, b"idle")]


def test_a_finished_prediction_has_everything_and_its_stages_add_up(store: Store) -> None:
    id = store.submit(b"7", "im3.png").id
    assert finish(store) == ([], [])
    done = store.fetch(id)
    assert (done.state, done.digit, done.decision, done.warnings) == (State.SUCCEEDED, 7, "accept", ["inverted"])
    assert (done.attempt, done.batch) == (1, {"size": 1, "position": 0})
    assert (done.model, done.preprocessing) == ("m", "p")
    assert done.probabilities and sum(done.probabilities) == pytest.approx(1)
    timings = done.timings_ms or {}
    assert sum(timings[s] for s in ("queue", "preprocess", "inference", "store")) == pytest.approx(
        timings["total"], abs=0.01
    )
    assert store.model_input(id) == bytes(784)


@pytest.mark.parametrize("reason", [None, "not_a_digit"])
def test_the_reason_of_a_decision_takes_the_way_of_the_decision(reason: str | None, store: Store) -> None:
    id = store.submit(b"7").id
    [claim] = store.claim("w", keys.QUEUES, 64, "n")
    found = replace(outcome(7), decision="reject" if reason else "accept", reason=reason)
    store.finish("w", [Finish(claim, "e30=", "", found)], Ran("m", "p", 1, 0.4, 0.9))
    done = store.fetch(id)
    assert (done.reason, done.to_json()["reason"], Prediction.from_json(done.to_json()).reason) == (reason,) * 3
    assert (done.warnings, done.batch, store.model_input(id)) == (["inverted"], {"size": 1, "position": 0}, bytes(784))


def test_probabilities_are_kept_once_and_with_six_digits(store: Store, client: redis.Redis) -> None:
    id = store.submit(b"7").id
    [claim] = store.claim("w", keys.QUEUES, 64, "n")
    found = replace(outcome(7), probabilities=(0.00011084696598118171,) * 9 + (0.9990023773061694,))
    store.finish("w", [finished(claim, found)])
    assert store.fetch(id).probabilities == [0.000110847] * 9 + [0.999002]
    [(_, result)] = client.xrange(f"rq:results:{id}")
    kept = [*client.hgetall(keys.job(id)).values(), b64decode(result[b"return_value"])]
    assert b"".join(kept).count(b"0.999002") == 1


def test_what_the_model_saw_is_kept_compressed(store: Store, client: redis.Redis) -> None:
    id = store.submit(b"7").id
    finish(store)
    assert store.model_input(id) == bytes(784)
    assert client.strlen(keys.model_input(id)) < 100


@pytest.mark.parametrize(
    ("status", "found", "state", "code"),
    [
        *((status, "", State.QUEUED, None) for status in ("queued", "scheduled", "deferred", "rate_limited")),
        ("started", "", State.RUNNING, None),
        ("finished", '{"digit":7}', State.SUCCEEDED, None),
        ("finished", "", State.FAILED, "lost"),
        ("failed", '{"error":["undecodable_image","…"]}', State.FAILED, "undecodable_image"),
        ("failed", '{"error":["expired","…"]}', State.EXPIRED, "expired"),
        ("failed", "", State.FAILED, "poison"),
        ("canceled", "", State.CANCELLED, None),
        ("stopped", "", State.CANCELLED, None),
        ("queued", '{"digit":7}', State.QUEUED, None),
        ("failed", "no JSON", State.FAILED, "poison"),
    ],
)
def test_the_state_is_derived_from_rqs_status_alone(
    status: str, found: str, state: State, code: str | None, store: Store, client: redis.Redis
) -> None:
    id = store.submit(b"7").id
    client.hset(keys.job(id), mapping={"status": status, "digitq_found": found})
    one = store.fetch(id)
    assert (one.state, (one.error or {}).get("code")) == (state, code)
    assert one.digit == (7 if state is State.SUCCEEDED else None)


def dumped(client: redis.Redis) -> dict[bytes, bytes | None]:
    return {key: client.dump(key) for key in client.scan_iter()}


def test_reading_changes_nothing(store: Store, client: redis.Redis) -> None:
    ids = [store.submit(b"7").id for _ in range(4)]
    Job.fetch(ids[1], connection=client, serializer="json").cancel()
    Job.fetch(ids[2], connection=client, serializer="json").delete()
    store.claim("w", keys.QUEUES, 1, "n")
    before = dumped(client)
    states = [store.fetch(id).state for id in ids]
    assert states == [State.RUNNING, State.CANCELLED, State.FAILED, State.QUEUED]
    assert dumped(client) == before


def test_a_job_that_is_no_picture_is_no_prediction(store: Store, client: redis.Redis) -> None:
    job = RQQueue("digitq", connection=client, serializer="json").enqueue("tests.jobs.double", 21)
    for verb in (store.fetch, store.cancel):
        with pytest.raises(NotFound):
            verb(job.id)
    assert job.get_status() == "queued"


def test_every_key_of_ours_has_a_time_to_live(store: Store, client: redis.Redis) -> None:
    for image in (b"1", b"2", b"3"):
        store.submit(image, idempotency_key=image.decode())
    finish(store)
    store.cancel(store.submit(b"4").id)
    store.cancel(store.recent(1)[0][0].id)  # for good
    batches = Batches(store)
    for number in range(2):
        batch = batches.submit([Chunk(2, b"{}")] * 3, idempotency_key=f"batch-{number}")
    batches.cancel(batch.id)
    store.submit(b"5")
    store.renew("w", [], '{"version": "m"}')
    store.workers()
    store.recovery_turn("w")
    assert [key for key in client.scan_iter("digitq:*") if client.ttl(key) < 0] == []


def test_a_lease_that_ran_out_writes_nothing(store: Store, client: redis.Redis) -> None:
    id = store.submit(b"7").id
    claims = store.claim("w", keys.QUEUES, 64, "n")
    client.zadd("rq:wip:digitq", {f"{id}:{claims[0].execution}": store.time() - 0.001})
    done = Finish(claims[0], "e30=", "", outcome(7))
    assert store.finish("w", [done]) == ([id], [])
    assert store.fetch(id).state is State.RUNNING
    assert store.renew("w", claims) == 0


def test_a_lease_within_the_margin_writes_nothing(store: Store, client: redis.Redis) -> None:
    id = store.submit(b"7").id
    claims = store.claim("w", keys.QUEUES, 64, "n")
    client.zadd("rq:wip:digitq", {f"{id}:{claims[0].execution}": store.time() + 0.1})
    done = Finish(claims[0], "e30=", "", outcome(7))
    assert store.finish("w", [done]) == ([id], [])


def test_a_renewed_lease_lives_on(store: Store, client: redis.Redis) -> None:
    id = store.submit(b"7").id
    claims = store.claim("w", keys.QUEUES, 64, "n")
    client.zadd("rq:wip:digitq", {f"{id}:{claims[0].execution}": store.time() + 0.5})
    assert store.renew("w", claims) == 1
    assert client.zscore("rq:wip:digitq", f"{id}:{claims[0].execution}") > store.time() + 1.5


def test_a_job_that_stands_twice_in_the_queue_is_claimed_once(store: Store, client: redis.Redis) -> None:
    id = store.submit(b"7").id
    client.rpush("rq:queue:digitq", id)
    assert [claim.id for claim in store.claim("w", keys.QUEUES, 64, "n")] == [id]
    assert client.llen("rq:queue:digitq") == 0


def test_a_waiting_picture_can_be_cancelled(store: Store, client: redis.Redis) -> None:
    id = store.submit(b"7").id
    store.cancel(id)
    assert store.fetch(id).state is State.CANCELLED
    assert store.claim("w", keys.QUEUES, 64, "n") == []
    assert store.image(id) is None
    assert Job.fetch(id, connection=client, serializer="json").is_canceled


def test_a_running_prediction_cannot_be_cancelled(store: Store) -> None:
    id = store.submit(b"7").id
    store.claim("w", keys.QUEUES, 64, "n")
    with pytest.raises(StillRunning):
        store.cancel(id)


def test_an_ended_prediction_is_forgotten_without_a_trace(store: Store, client: redis.Redis) -> None:
    id = store.submit(b"7").id
    finish(store)
    store.cancel(id)
    with pytest.raises(NotFound):
        store.fetch(id)
    with pytest.raises(NotFound):
        store.cancel(id)
    assert store.recent(10) == ([], None)
    assert client.keys(f"*{id}*") == [f"digitq:gone:{id}".encode()]


def test_ids_that_are_gone_say_why(store: Store) -> None:
    with pytest.raises(NotFound):
        store.fetch("no-such-id")
    with pytest.raises(Lost):
        store.fetch(new_id(now=store.time()))
    with pytest.raises(Expired):
        store.fetch(new_id(now=store.time() - store.settings.result_ttl_seconds - 1))


def test_the_id_of_a_batch_is_no_lost_prediction_and_the_reverse(store: Store) -> None:
    batches = Batches(store)
    batch, one, forgotten = batches.submit(packed([Item("", b"7")])).id, store.submit(b"7").id, store.submit(b"8").id
    store.cancel(forgotten)
    store.cancel(forgotten)
    for fetch, id in ((store.fetch, batch), (batches.fetch, one), (batches.fetch, forgotten)):
        with pytest.raises(NotFound, match="no such"):
            fetch(id)


def test_an_id_contains_its_time_and_a_checksum() -> None:
    id = new_id(now=1_900_000_000.5)
    assert issued_at(id) == 1_900_000_000.5
    assert issued_at(id[:-1] + ("A" if id[-1] != "A" else "B")) is None
    assert issued_at("x" * 24) is None
    assert len({new_id() for _ in range(1000)}) == 1000


def test_history_comes_newest_first_and_in_pages(store: Store) -> None:
    ids = [store.submit(str(i).encode()).id for i in range(5)]
    first, cursor = store.recent(3)
    second, end = store.recent(3, cursor)
    assert [one.id for one in first + second] == ids[::-1]
    assert cursor is not None and end is None


def test_a_job_that_was_deleted_with_rqs_tools_is_lost(store: Store, client: redis.Redis) -> None:
    id = store.submit(b"7").id
    Job.fetch(id, connection=client, serializer="json").delete()
    found = store.fetch(id)
    assert (found.state, found.error and found.error["code"]) == (State.FAILED, "lost")


def test_a_job_that_was_cancelled_with_rqs_tools_is_cancelled(store: Store, client: redis.Redis) -> None:
    id = store.submit(b"7").id
    Job.fetch(id, connection=client, serializer="json").cancel()
    assert store.fetch(id).state is State.CANCELLED


@pytest.mark.parametrize("told", [False, True])
def test_a_picture_whose_job_is_gone_can_still_be_forgotten(told: bool, store: Store, client: redis.Redis) -> None:
    id = store.submit(b"7").id
    Job.fetch(id, connection=client, serializer="json").delete()
    if told:
        store.sweep(0)
    store.cancel(id)
    with pytest.raises(NotFound):
        store.fetch(id)
    assert not client.exists(keys.OPEN, keys.ACCEPTED, "digitq:bytes")


def test_late_results_change_nothing(store: Store) -> None:
    id = store.submit(b"7").id
    finish(store)
    assert not store.end_alone(id, 1, "failed", b'{"error":["late","late"]}')
    assert store.fetch(id).state is State.SUCCEEDED


def test_the_end_of_an_earlier_attempt_changes_nothing(store: Store, client: redis.Redis) -> None:
    id = store.submit(b"7").id
    store.claim("late", keys.QUEUES, 1, "n")
    assert store.start_alone(id) == 1
    client.zrem("rq:wip:digitq", f"{id}:n0")  # its lease expires, and the job is put back
    client.hset(keys.job(id), "status", "queued")
    client.rpush("rq:queue:digitq", id)
    store.claim("another", keys.QUEUES, 1, "m")
    assert not store.end_alone(id, 1, "finished", b'{"digit":1}')
    assert store.fetch(id).state is State.RUNNING
    assert store.end_alone(id, store.start_alone(id), "finished", b'{"digit":7}')
    assert client.hget(keys.job(id), "digitq_found") == b'{"digit":7}'


def test_the_clock_of_the_scripts_is_rqs_format(store: Store, client: redis.Redis) -> None:
    id = store.submit(b"7").id
    created = Job.fetch(id, connection=client, serializer="json").created_at
    assert abs((datetime.now(UTC) - created.replace(tzinfo=UTC)).total_seconds()) < 2


def test_a_result_without_a_lease_is_fenced_off(store: Store, client: redis.Redis) -> None:
    id = store.submit(b"7").id
    [claim] = store.claim("w", keys.QUEUES, 64, "n")
    client.delete("rq:wip:digitq")
    assert store.finish("w", [Finish(claim, "e30=", "", outcome(7))]) == ([id], [])
    assert store.fetch(id).state is State.RUNNING


def test_a_worker_that_is_no_longer_heard_of_is_forgotten(store: Store, client: redis.Redis) -> None:
    client.zadd("digitq:workers", {"silent": store.time() - 1})
    store.renew("w", [])
    assert client.zrange("digitq:workers", 0, -1) == [b"w"]
