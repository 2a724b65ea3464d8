"""Pictures read as numbers on their way through the queue, with a stand-in for the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import redis
from prometheus_client import generate_latest
from rq import Queue
from rq.job import Job

from shared import keys
from shared.batch import COLUMNS
from shared.batches import Batches
from shared.chunks import Item, packed
from shared.errors import IdempotencyMismatch
from shared.numbers import PageReading, Read
from shared.prediction import Outcome, Prediction, State
from shared.store import Store
from tests import fakes
from tests.pages import PAGE
from tests.samples import samples
from tests.working import burst
from worker.inference.classify import Classified
from worker.queue.batch_worker import BatchWorker
from worker.queue.jobs import finish as finished
from worker.telemetry import metrics


def test_a_picture_for_numbers_is_a_job_with_that_keyword_and_nothing_else(store: Store, client: redis.Redis) -> None:
    id, digit = store.submit(b"7", read="numbers").id, store.submit(b"7").id
    job = Job.fetch(id, connection=client, serializer="json")
    assert (job.func_name, job.args, job.kwargs) == (keys.JOB_FUNCTION, [id], {"read": "numbers"})
    assert job.description == job.get_call_string() == f"digitq.tasks.classify('{id}', read='numbers')"
    assert client.hkeys(keys.job(id)) == client.hkeys(keys.job(digit))
    assert client.hget(keys.job(digit), "data") == f'["digitq.tasks.classify",null,["{digit}"],{{}}]'.encode()


def test_an_idempotency_key_belongs_to_one_way_of_reading(store: Store) -> None:
    first = store.submit(b"7", idempotency_key="k", read="numbers")
    assert store.submit(b"7", idempotency_key="k", read="numbers").id == first.id
    with pytest.raises(IdempotencyMismatch):
        store.submit(b"7", idempotency_key="k")


def test_a_page_of_numbers_is_read_back_as_it_was_found(store: Store) -> None:
    id = store.submit(b"7", read="numbers").id
    [claim] = store.claim("w", keys.QUEUES, 64, "n")
    page = Outcome(None, None, None, "review", (), b"", page=PAGE)
    store.finish("w", [finished(claim, page)])
    found = store.fetch(id)
    assert (found.state, found.digit, found.probabilities, found.decision) == (State.SUCCEEDED, None, None, "review")
    assert (found.numbers, found.grid, found.rotated) == (list(PAGE.numbers), None, 0)
    assert [number["text"] for number in found.to_json()["numbers"]] == ["735426", "12", "90"]
    assert Prediction.from_json(found.to_json()).numbers == found.numbers
    assert store.model_input(id) is None


def test_a_picture_read_as_a_digit_has_no_members_for_numbers(store: Store) -> None:
    id = store.submit(b"7").id
    [claim] = store.claim("w", keys.QUEUES, 64, "n")
    store.finish("w", [finished(claim, fakes.outcome(7))])
    assert not {"numbers", "grid", "rotated"} & store.fetch(id).to_json().keys()


def texts(prediction: Prediction) -> list[str]:
    return [number.text for number in prediction.numbers or ()]


def test_digits_and_pages_share_a_queue_and_each_is_read_as_asked(store: Store) -> None:
    pictures: list[tuple[bytes, Read]] = [(b"7", "digit"), (b"12 345", "numbers"), (b"8", "digit"), (b"9", "numbers")]
    ids = [store.submit(image, read=read).id for image, read in pictures]
    burst(store)
    found = [store.fetch(id) for id in ids]
    assert [one.digit for one in found] == [7, None, 8, 9]
    assert [one.numbers is None for one in found] == [True, False, True, False]
    assert [texts(one) for one in found] == [[], ["12", "345"], [], ["9"]]
    assert found[3].probabilities is not None and store.model_input(ids[3]) is not None


def test_single_digits_end_before_the_pages_that_were_claimed_with_them(store: Store) -> None:
    ended: list[bool] = []

    def read_numbers(images: Sequence[bytes]) -> Classified:
        ended.append(store.fetch(digit).state.terminal)
        return fakes.read_numbers(images)

    store.submit(b"12", read="numbers")
    digit = store.submit(b"7").id
    worker = BatchWorker(store, fakes.classify, read_numbers)
    worker.work(burst=True)
    worker.wakeup.close()
    assert ended == [True]


def test_one_bad_page_fails_alone(store: Store) -> None:
    images = [b"12", b"undecodable", b"poison-batch", b"34"]
    ids = [store.submit(image, read="numbers").id for image in images]
    burst(store)
    found = [store.fetch(id) for id in ids]
    assert [texts(one) for one in found] == [["12"], [], [], ["34"]]
    assert [(one.error or {}).get("code") for one in found] == [None, "undecodable_image", "internal_error", None]


def test_a_page_that_takes_too_long_is_cut_and_its_neighbours_succeed(store: Store) -> None:
    hasty = Store(store.client, replace(store.settings, job_timeout_seconds=1, max_attempts=1))
    ids = [hasty.submit(image, read="numbers").id for image in (b"12", b"slow", b"34")]
    burst(hasty)
    found = [hasty.fetch(id) for id in ids]
    assert [texts(one) for one in found] == [["12"], [], ["34"]]
    assert (found[1].error or {})["code"] == "timeout"


def test_pages_for_which_there_is_no_time_go_back_to_the_queue(store: Store) -> None:
    batches: list[int] = []

    def one_at_a_time(images: Sequence[bytes]) -> Classified:
        batches.append(len(images))
        return fakes.read_numbers(images[:1])

    ids = [store.submit(b"12", read="numbers").id for _ in range(3)]
    worker = BatchWorker(store, fakes.classify, one_at_a_time)
    worker.work(burst=True)
    worker.wakeup.close()
    assert batches == [3, 2, 1]
    assert [(texts(store.fetch(id)), store.fetch(id).attempt) for id in ids] == [(["12"], 1)] * 3


def test_a_worker_whose_model_reads_no_numbers_says_so(store: Store) -> None:
    id = store.submit(b"12", read="numbers").id
    worker = BatchWorker(store, fakes.classify)
    worker.work(burst=True)
    worker.wakeup.close()
    assert (store.fetch(id).error or {})["code"] == "unknown_read"


def test_a_plain_rq_client_asks_for_numbers_by_a_keyword(store: Store, client: redis.Redis) -> None:
    client.set(keys.image("p"), b"12 34", ex=60)
    job = Queue("digitq", connection=client, serializer="json").enqueue(keys.JOB_FUNCTION, "p", read="numbers")
    burst(store)
    assert texts(store.fetch(job.id)) == ["12", "34"]
    assert job.return_value() == {"digit": None, "confidence": None, "decision": "accept", "numbers": ["12", "34"]}


def test_a_batch_is_read_as_numbers_in_chunks(store: Store) -> None:
    batches = Batches(store)
    pictures = [Item("", image) for image in (b"12 3", b"undecodable", b"4")]
    batch = batches.submit(packed(pictures), read="numbers")
    assert (batch.read, batch.to_json()["read"]) == ("numbers", "numbers")
    waiting = next(batches.results(batch.id))
    assert waiting["numbers"] is None and waiting["state"] == "queued"
    burst(store)
    rows = list(batches.results(batch.id))
    found = [PageReading.from_json(row) for row in rows]
    assert [one.lines if one else None for one in found] == [["12 3"], None, ["4"]]
    assert [(row["state"], row["digit"], row["grid"]) for row in rows] == [
        ("succeeded", None, None), ("failed", None, None), ("succeeded", 4, None),
    ]  # fmt: skip
    assert (batches.fetch(batch.id).succeeded, batches.fetch(batch.id).failed) == (2, 1)


def test_a_batch_of_digits_says_nothing_of_numbers(store: Store, client: redis.Redis) -> None:
    batches = Batches(store)
    batch = batches.submit(packed([Item("", b"7")]))
    burst(store)
    [row] = batches.results(batch.id)
    assert tuple(row) == (*COLUMNS, "model") and "read" not in batch.to_json()
    assert client.hexists(keys.batch(batch.id), "read") is False


def test_an_idempotency_key_of_a_batch_belongs_to_one_way_of_reading(store: Store) -> None:
    batches, again = Batches(store), {"idempotency_key": "k", "fingerprint": "f"}
    first = batches.submit(packed([Item("", b"7")]), read="numbers", **again)  # type: ignore[arg-type]
    assert batches.submit(packed([Item("", b"7")]), read="numbers", **again).id == first.id  # type: ignore[arg-type]
    with pytest.raises(IdempotencyMismatch):
        batches.submit(packed([Item("", b"7")]), **again)  # type: ignore[arg-type]


def test_digits_are_counted_by_decision() -> None:
    before = samples(generate_latest(metrics.registry).decode())
    metrics.classified([Outcome(None, None, None, "review", (), b"", page=PAGE)], 0.1, 0.1)
    after = samples(generate_latest(metrics.registry).decode())
    counted = {name: after.get(name, 0) - before.get(name, 0) for name in after if name[0] == "digitq_digits_total"}
    assert counted == {
        ("digitq_digits_total", (("decision", "accept"),)): 8, ("digitq_digits_total", (("decision", "review"),)): 2,
    }  # fmt: skip
