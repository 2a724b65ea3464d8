"""RQ's own commands move a picture, and whoever polls, reads the history or the page, listens, or is to be called hears
of its end: also when nobody polls.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import redis
from rq import Queue as RQQueue
from rq import SimpleWorker
from rq.job import Job

import worker.tasks
from producer.webhooks.delivery import Deliverer
from shared import keys
from shared.errors import NotFound
from shared.prediction import State
from shared.store import Store
from shared.submission import Caller
from tests import fakes
from tests.listening import listening
from tests.planted import Planted
from tests.receiver import SENDS, Receiver, receiver
from tests.served import WebClient, site
from worker.queue.batch_worker import BatchWorker

__all__ = ["receiver"]


@pytest.fixture
def once(store: Store) -> Store:
    """With one attempt, so that the first death is the last."""
    return Store(store.client, replace(store.settings, max_attempts=1, **SENDS))


@pytest.fixture
def web(once: Store) -> Iterator[WebClient]:
    with site(once, **SENDS) as client:
        yield client


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets each run of the recovery check all open predictions."""
    monkeypatch.setattr("worker.queue.recovery.SWEEP_AFTER_SECONDS", 0)
    monkeypatch.setattr(worker.tasks, "classifier", Planted)


def serve(store: Store) -> None:
    """A worker of ours, until nothing is left; its run of the recovery is the one that tells."""
    one = BatchWorker(store, fakes.classify, card={"version": "m"})
    one.work(burst=True)
    one.recovery.sweep()
    one.wakeup.close()


def job(store: Store, id: str) -> Job:
    return Job.fetch(id, connection=store.client, serializer="json")


def queue(store: Store) -> RQQueue:
    return RQQueue("digitq", connection=store.client, serializer="json")


def cancel(store: Store, id: str) -> None:
    job(store, id).cancel()


def delete(store: Store, id: str) -> None:
    job(store, id).delete()


def empty(store: Store, id: str) -> None:
    queue(store).empty()


def stock_worker(store: Store, id: str) -> None:
    SimpleWorker(["digitq"], connection=store.client, serializer="json").work(burst=True, logging_level="CRITICAL")


def recovery(store: Store, id: str) -> None:
    store.claim("dead", keys.QUEUES, 1, "n")
    store.client.zadd("rq:wip:digitq", dict.fromkeys(store.client.zrange("rq:wip:digitq", 0, -1), 1))
    assert queue(store).started_job_registry.count == 0  # RQ recovers when it counts


def requeue(store: Store, id: str) -> None:
    store.client.set(keys.image(id), b"undecodable", ex=600)
    serve(store)
    assert store.fetch(id).state is State.FAILED
    store.client.set(keys.image(id), b"7", ex=600)
    job(store, id).requeue()
    assert (store.fetch(id).state, store.fetch(id).error, store.fetch(id).attempt) == (State.QUEUED, None, 0)


@pytest.mark.parametrize(
    ("tool", "state", "code", "ends"),
    [
        (cancel, State.CANCELLED, None, 1),
        (delete, State.FAILED, "lost", 1),
        (empty, State.FAILED, "lost", 1),
        (stock_worker, State.SUCCEEDED, None, 1),
        (recovery, State.FAILED, "poison", 1),
        (requeue, State.SUCCEEDED, None, 2),
    ],
)
def test_an_end_that_rqs_tools_bring_is_told_to_everybody_when_nobody_polls(
    tool: Callable[[Store, str], None], state: State, code: str | None, ends: int, once: Store, web: WebClient,
    receiver: Receiver,
) -> None:  # fmt: skip
    listener, deliverer = listening(web), Deliverer(once, delays=(0.1,) * 7)
    id = once.submit(b"7", "im7.png", notes={"callback_url": receiver.url}).id
    tool(once, id)
    serve(once)
    told = listener.wait_for("prediction", ends, seconds=20)
    while deliverer.deliver_one():
        pass
    assert [(one["id"], one["state"]) for one in told][-1] == (id, state.value)
    assert (told[-1]["error"] or {}).get("code") == code and len(told) == ends
    called = [json.loads(body)["data"] for _, body, _ in receiver.got]
    assert [(one["id"], one["state"]) for one in called] == [(id, state.value)]
    polled = web.get(f"/v1/predictions/{id}").get_json()
    listed = web.get("/v1/predictions").get_json()["predictions"]
    assert polled == listed[0] == called[0]
    assert (polled["state"], polled["digit"]) == (state.value, 7 if state is State.SUCCEEDED else None)
    assert polled["finished_at"]
    page = web.get(f"/predictions/{id}", headers={"Accept": "text/html"})
    shown = polled["error"]["message"] if polled["error"] else str(polled["digit"] or state.value)
    assert page.status_code == 200 and shown in page.text
    assert not once.client.exists(keys.OPEN, keys.ACCEPTED, "digitq:bytes")
    assert all(once.client.ttl(key) > 0 for key in once.client.scan_iter(f"*{id}*"))


def test_a_picture_that_ends_again_is_another_message_to_its_receiver(once: Store, receiver: Receiver) -> None:
    deliverer = Deliverer(once, delays=(0.1,) * 7)
    id = once.submit(b"undecodable", notes={"callback_url": receiver.url}).id
    for image in (b"7", b"7"):
        serve(once)
        assert deliverer.deliver_one()
        once.client.set(keys.image(id), image, ex=600)
        if once.fetch(id).state is State.FAILED:
            job(once, id).requeue()
    assert [headers["webhook-id"] for headers, _, _ in receiver.got] == [id, f"{id}.2"]
    assert [json.loads(body)["data"]["state"] for _, body, _ in receiver.got] == ["failed", "succeeded"]


def test_what_is_lost_is_told_to_its_owner_alone(once: Store) -> None:
    id = once.submit(b"7", caller=Caller("alice")).id
    delete(once, id)
    for _ in range(2):  # before its end is told, and after
        assert once.fetch(id, "alice").state is State.FAILED
        with pytest.raises(NotFound):
            once.fetch(id, "bob")
        serve(once)


def test_a_stock_worker_announces_the_end_without_our_worker(once: Store, client: redis.Redis) -> None:
    id = once.submit(b"7", notes={"callback_url": "https://example.org"}).id
    stock_worker(once, id)
    due = once.due_webhook(5, 3)
    assert due and due.id == id and once.fetch(id).digit == 7
    assert job(once, id).latest_result().return_value["digit"] == 7
    assert not client.exists(keys.OPEN)
