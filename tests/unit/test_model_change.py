"""Another model for a running worker: from one batch to the next, and never within one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from prometheus_client import generate_latest
from rq import Queue as RQQueue
from rq import SimpleWorker

from producer.cli.screen import load_lines
from shared import keys
from shared.batches import Batches
from shared.chunks import Item, packed
from shared.keys import Priority
from shared.store import Store
from tests import fakes
from tests.pictures import seven
from tests.samples import samples
from tests.served import site
from worker import service, tasks
from worker.inference.classify import Classified, Classifier
from worker.queue.batch_worker import BatchWorker
from worker.queue.serving import Serving
from worker.telemetry import metrics

#: Digits that a model adds to what it reads.
ADDED = {"old": 0, "new": 1}


def model(version: str, **more: Any) -> Serving:
    """A model that reads `b"7"` as 7 or 8; its batches are `seen`."""

    def one(image: bytes) -> bytes:
        return image if image == b"undecodable" else str((int(image) + ADDED[version]) % 10).encode()

    def classify(images: Sequence[bytes]) -> Classified:
        seen.append((version, len(images)))
        for then in during:
            then()
        return fakes.classify([one(image) for image in images])

    def read_numbers(images: Sequence[bytes]) -> Classified:
        return fakes.read_numbers([one(image) for image in images])

    return Serving(classify, read_numbers, {"version": version, "preprocessing": f"{version}-p"}, **more)


seen: list[tuple[str, int]] = []
#: What happens during a batch.
during: list[Callable[[], None]] = []


@pytest.fixture(autouse=True)
def nothing_was_seen() -> None:
    seen.clear()
    during.clear()


class Change:
    """Says which model to serve next."""

    def __init__(self) -> None:
        self.next: Serving | None = None

    def to(self, serving: Serving) -> None:
        self.next = serving

    def __call__(self, serving: Serving) -> Serving:
        return self.next or serving


@pytest.fixture
def change() -> Change:
    return Change()


@pytest.fixture
def worker(store: Store, change: Change) -> Iterator[BatchWorker]:
    old = model("old")
    one = BatchWorker(store, old.classify, old.read_numbers, card=old.card, name="w", renewed=change)
    yield one
    one.wakeup.close()


def read_by(store: Store, ids: Sequence[str]) -> list[tuple[int | None, str | None, str | None, int]]:
    found = [store.fetch(id) for id in ids]
    return [(one.digit, one.model, one.preprocessing, one.attempt) for one in found]


OLD, NEW = (7, "old", "old-p", 1), (8, "new", "new-p", 1)


def test_a_batch_is_of_the_model_that_it_began_with_and_the_next_one_of_the_new(
    store: Store, worker: BatchWorker, change: Change
) -> None:
    store.settings = replace(store.settings, batch_max_size=2)
    worker.recovery.last_run = float("inf")  # so that the next batch is claimed with the end of the last
    ids = [store.submit(b"7").id for _ in range(4)]
    during.append(lambda: change.to(model("new")))
    worker.work(burst=True)
    assert read_by(store, ids) == [OLD, OLD, NEW, NEW]
    assert seen == [("old", 2), ("new", 2)]


def test_pages_change_with_the_digits(store: Store, worker: BatchWorker, change: Change) -> None:
    change.to(model("new"))
    id = store.submit(b"7", read="numbers").id
    worker.work(burst=True)
    assert read_by(store, [id]) == [NEW]


def test_a_chunk_is_finished_by_the_model_it_began_with_and_what_overtakes_it_too(
    store: Store, worker: BatchWorker, change: Change
) -> None:
    urgent: list[str] = []

    def promote_and_submit() -> None:
        if not urgent:
            change.to(model("new"))
            urgent.append(store.submit(b"7", priority=Priority.HIGH).id)

    during.append(promote_and_submit)
    batch = Batches(store).submit(packed(Item("", b"7") for _ in range(200)))
    worker.work(burst=True)
    assert {(row["digit"], row["model"]) for row in Batches(store).results(batch.id)} == {(7, "old")}
    assert read_by(store, urgent) == [OLD]
    later = store.submit(b"7").id
    worker._run_next(burst=True)
    assert read_by(store, [later]) == [NEW]


def test_each_result_of_a_chunk_that_two_models_read_names_its_own(store: Store, worker: BatchWorker) -> None:
    during.append(lambda: worker.request_stop(0, None))
    batch = Batches(store).submit(packed(Item("", one) for one in [b"7"] * 133 + [b"undecodable"]))
    worker.work()
    during.clear()
    new = model("new")
    BatchWorker(store, new.classify, card=new.card).work(burst=True)
    read = [(row["state"], row["digit"], row["model"]) for row in Batches(store).results(batch.id)]
    assert read == [("succeeded", 7, "old")] * 128 + [("succeeded", 8, "new")] * 5 + [("failed", None, None)]


def test_the_heartbeat_tells_the_new_card_and_the_worker_what_it_serves_and_refuses(
    store: Store, client: redis.Redis, worker: BatchWorker, change: Change
) -> None:
    told: list[Any] = []

    def beat() -> None:
        worker.heartbeat_thread.beat()
        told.append((store.model_card(), client.hmget("rq:worker:w", "model", "refused")))
        change.to(model("new", refused="damaged"))

    during.append(beat)
    store.settings = replace(store.settings, batch_max_size=1)
    for _ in range(2):
        store.submit(b"7")
    worker.work(burst=True)
    assert told == [
        ({"version": "old", "preprocessing": "old-p"}, [b"old", b""]),
        ({"version": "new", "preprocessing": "new-p"}, [b"new", b"damaged"]),
    ]


def test_the_metrics_have_the_new_model_alone(worker: BatchWorker, change: Change) -> None:
    def shown() -> dict[str, float]:
        found = samples(generate_latest(metrics.registry).decode())
        models = {
            dict(labels)["model"]: value for (name, labels), value in found.items() if name == "digitq_model_info"
        }
        return models | {"refused": found["digitq_model_refused", ()]}

    assert shown() == {"old": 1, "refused": 0}
    change.to(model("new", refused="damaged"))
    worker._run_next(burst=True)
    assert shown() == {"new": 1, "refused": 1}
    change.to(model("new"))
    worker._run_next(burst=True)
    assert shown() == {"new": 1, "refused": 0}


def test_the_api_tells_how_many_workers_serve_which_model(store: Store, client: redis.Redis) -> None:
    for name, version, refused in (
        ("a", "old", "damaged"),
        ("b", "new", ""),
        ("c", "new", ""),
        ("d", "old", "damaged"),
    ):
        store.renew(name, [], json.dumps({"version": version}))
        client.hset(f"rq:worker:{name}", mapping={"state": "idle", "model": version, "refused": refused})
    store.renew("e", [], json.dumps({"version": "new"}))
    client.hset("rq:worker:e", mapping={"state": "idle", "model": "new"})  # of an older version
    with site(store) as web:
        card, load = (web.get(path).get_json() for path in ("/v1/model", "/v1/status"))
    assert card == {"version": "new", "workers": {"new": 3, "old": 2}, "refused": ["damaged"]}
    assert [*card["workers"]] == ["new", "old"]
    assert (load["workers"]["models"], load["workers"]["refusing"]) == ({"new": 3, "old": 2}, 2)
    line = load_lines(load)[-1]
    assert "new (3 of 5 workers), old (2 of 5 workers)   a newer one is refused" in line


def test_a_single_model_is_shown_by_its_name(store: Store, client: redis.Redis) -> None:
    store.renew("a", [], "")
    client.hset("rq:worker:a", mapping={"model": "new"})
    store.renew("older", [], "")  # it does not say what it serves
    with site(store) as web:
        load = web.get("/v1/status").get_json()
    assert load_lines(load)[-1] == "model     new"
    del load["workers"]["models"]  # an older server
    assert len(load_lines(load)) == 3


# The process


class Double:
    """In place of `ServedModel`: one classifier after the other."""

    def __init__(self) -> None:
        self.serving = self.classifier_of("old", 7)
        self.refused, self.device = "", "cpu"
        self.asked = 0

    @staticmethod
    def classifier_of(version: str, digit: int) -> Any:
        def classify(images: Sequence[bytes]) -> Classified:
            return Classified([fakes.outcome(digit) for _ in images])

        classify.model = SimpleNamespace(version=version, card={"version": version, "preprocessing": "mnist-1"})  # type: ignore[attr-defined]
        classify.preprocessing = "mnist-5"  # type: ignore[attr-defined]
        return classify

    def classifier(self) -> Classifier:
        self.asked += 1
        found: Classifier = self.serving
        return found


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Double:
    double = Double()
    monkeypatch.setattr(service, "served", lambda: double)
    return double


def test_a_process_serves_the_same_until_there_is_another_or_one_is_refused(served: Double) -> None:
    first = service.in_service()
    assert first.card == {"version": "old", "preprocessing": "mnist-5"}  # as configured, not as trained
    assert service.in_service(first) is first
    served.refused = "damaged"
    second = service.in_service(first)
    assert (second.refused, second.version) == ("damaged", "old")
    assert service.in_service(second) is second
    served.serving, served.refused = served.classifier_of("new", 8), ""
    third = service.in_service(second)
    assert (third.refused, third.version, third.classify) == ("", "new", served.serving)
    assert third.read_numbers.digits is served.serving  # type: ignore[attr-defined]


@pytest.mark.parametrize("function", [keys.JOB_FUNCTION, keys.CHUNK_FUNCTION])
def test_a_job_that_rq_runs_asks_once_for_its_model(
    function: str, served: Double, store: Store, client: redis.Redis
) -> None:
    """So the model that is named is the one that read."""
    id = "p"
    if function == keys.JOB_FUNCTION:
        client.set(keys.image(id), seven(), ex=60)
        RQQueue("digitq", connection=client, serializer="json").enqueue(function, id, job_id=id)
    else:
        Batches(store).submit(packed(Item("", b"7") for _ in range(200)))
    SimpleWorker(["digitq", "digitq-low"], connection=client, serializer="json").work(
        burst=True, logging_level="CRITICAL"
    )
    assert served.asked == 1
    if function == keys.JOB_FUNCTION:
        assert (store.fetch(id).digit, store.fetch(id).model) == (7, "old")
    assert tasks.classifier is service.classifier
