"""Errors of a Redis that cannot serve count as an outage, for every verb, and never as a bug."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from redis._parsers import BaseParser

from producer import NEVER, AsyncQueue, Queue
from shared import keys, redis_scripts
from shared.batches import Batches
from shared.chunks import Chunk
from shared.claims import Claim, Finish, Ran
from shared.connections import sentinel
from shared.connections.connection import connect
from shared.errors import RedisUnavailable
from shared.ids import new_id
from shared.settings import Settings
from shared.store import DueWebhook, Store
from shared.submission import Submission
from tests.pictures import seven
from tests.served import site

ERRORS = [
    "NOREPLICAS Not enough good replicas to write.",
    "MISCONF Valkey is configured to save RDB snapshots, but it's currently unable to persist to disk.",
    "READONLY You can't write against a read only replica.",
    "LOADING Valkey is loading the dataset in memory",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
]
CLAIM = Claim("id", "execution", "digitq", True, b"", b"", 1, "30", "60", "60")
FINISH = Finish(CLAIM, "", "e30=")
ID = new_id()

#: Every verb that asks Redis something.
STORE: dict[str, Callable[[Store], Any]] = {
    "run_safely": lambda store: store.run_safely("load", [], redis_scripts.arguments(queues=keys.QUEUES)),
    "run": lambda store: store.run("load", [], redis_scripts.arguments(queues=keys.QUEUES)),
    "tell": lambda store: store.tell("load", queues=keys.QUEUES),
    "make_room": lambda store: store.make_room(1),
    "submit": lambda store: store.submit(seven()),
    "submit_all": lambda store: store.submit_all([Submission(ID, seven())]),
    "fetch": lambda store: store.fetch(ID),
    "fetch_all": lambda store: store.fetch_all([ID]),
    "missing": lambda store: store.missing(ID),
    "cancel": lambda store: store.cancel(ID),
    "recent": lambda store: store.recent(1),
    "page_of": lambda store: store.page_of(keys.RECENT, 1),
    "image": lambda store: store.image(ID),
    "image_pieces": lambda store: store.image_pieces(ID),
    "model_input": lambda store: store.model_input(ID),
    "model_card": lambda store: store.model_card(),
    "refusal": lambda store: store.refusal(),
    "get": lambda store: store.get("digitq:model"),
    "due_webhook": lambda store: store.due_webhook(1, 1),
    "end_webhook": lambda store: store.end_webhook(
        DueWebhook(ID, 1, 1, "https://example.org", "key:", {}), "delivered"
    ),
    "workers": lambda store: store.workers(),
    "load": lambda store: store.load(),
    "memory": lambda store: store.memory(),
    "time": lambda store: store.time(),
    "claim": lambda store: store.claim("worker", keys.QUEUES, 1, "nonce"),
    "renew": lambda store: store.renew("worker", [CLAIM]),
    "finish": lambda store: store.finish("worker", [FINISH]),
    "finish_and_claim": lambda store: store.finish_and_claim("worker", [FINISH], Ran(), 0, keys.QUEUES, 1, "nonce"),
    "release": lambda store: store.release("worker", [CLAIM]),
    "start_alone": lambda store: store.start_alone(ID),
    "end_alone": lambda store: store.end_alone(ID, 1, "failed", b"{}"),
    "refuse": lambda store: store.refuse("no"),
    "forget_workers": lambda store: store.forget_workers(),
    "leave": lambda store: store.leave("worker"),
    "sort_out_leases": lambda store: store.sort_out_leases(keys.QUEUES),
    "sweep": lambda store: store.sweep(1),
    "look_after": lambda store: store.look_after([ID]),
    "recovery_turn": lambda store: store.recovery_turn("worker"),
    "trim_registries": lambda store: store.trim_registries(keys.QUEUES),
    "end_recovery_turn": lambda store: store.end_recovery_turn("worker"),
}
BATCHES: dict[str, Callable[[Batches], Any]] = {
    "submit": lambda batches: batches.submit([Chunk(1, b"{}")]),
    "fetch": lambda batches: batches.fetch(ID),
    "recent": lambda batches: batches.recent(1),
    "wait": lambda batches: batches.wait(ID, 0),
    "looks": lambda batches: next(batches.looks(ID)),
    "results": lambda batches: list(batches.results(ID)),
    "cancel": lambda batches: batches.cancel(ID),
    "start": lambda batches: batches.start(f"{ID}-0"),
    "pack": lambda batches: batches.pack(f"{ID}-0"),
    "progress": lambda batches: batches.progress(f"{ID}-0", "1"),
    "note": lambda batches: batches.note(f"{ID}-0", "1", {}),
    "finish": lambda batches: batches.finish(f"{ID}-0", "1", {}),
}
QUEUE: dict[str, Callable[[Any], Any]] = {
    "submit": lambda queue: queue.submit(seven()),
    "submit_batch": lambda queue: queue.submit_batch([seven()]),
    "get": lambda queue: queue.get(ID),
    "get_batch": lambda queue: queue.get_batch(ID),
    "results": lambda queue: queue.results(ID),
    "cancel": lambda queue: queue.cancel(ID),
    "cancel_batch": lambda queue: queue.cancel_batch(ID),
}
#: These ask nothing themselves, or something that was read before.
SILENT = {"with_room", "reserve", "check_server", "accepted", "check_entered", "found", "results_of", "submit_call",
          "fetch_call"}  # fmt: skip


def verbs(kind: type) -> set[str]:
    return {name for name, _ in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_")} - SILENT


def test_the_tables_are_complete() -> None:
    assert verbs(Store) == {*STORE}
    assert verbs(Batches) == {*BATCHES}


@pytest.fixture(params=ERRORS, ids=lambda text: text.split()[0])
def refusing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Connections on which Redis answers all that is asked after the handshake with this error."""
    error, ready = request.param, set()
    kind = redis.connection.AbstractConnection
    read, connect = kind.read_response, kind.connect_check_health

    def connect_check_health(self: Any, *args: Any, **options: Any) -> None:
        connect(self, *args, **options)
        ready.add(id(self))

    def read_response(self: Any, *args: Any, **options: Any) -> Any:
        try:
            answer = read(self, *args, **options)
        except redis.ResponseError:
            answer = None
        if id(self) in ready:
            raise BaseParser.parse_error(error)
        return answer

    monkeypatch.setattr(redis.client.Pipeline, "load_scripts", lambda _: None)  # the script itself is to be refused
    monkeypatch.setattr("shared.connections.acks.REPLICAS_MS", 10)
    monkeypatch.setattr(kind, "read_response", read_response)
    monkeypatch.setattr(kind, "connect_check_health", connect_check_health)
    yield


def said_of(call: Callable[[], Any]) -> str:
    """Return the name of the error of a call, or its result."""
    try:
        return f"answered {call()}"
    except RedisUnavailable:
        return "RedisUnavailable"
    except Exception as error:
        return type(error).__name__


@pytest.mark.usefixtures("refusing")
@pytest.mark.parametrize("acks", [0, 1])
def test_every_verb_says_that_redis_is_unavailable(redis_url: str, acks: int) -> None:
    with connect(redis_url) as client:
        store = Store(client, Settings(replicas_ack=acks))
        said = {f"store.{name}": said_of(lambda: verb(store)) for name, verb in STORE.items()}  # noqa: B023
        said |= {f"batches.{name}": said_of(lambda: call(Batches(store))) for name, call in BATCHES.items()}  # noqa: B023
        assert {name: word for name, word in said.items() if word != "RedisUnavailable"} == {}


@pytest.mark.usefixtures("refusing")
@pytest.mark.parametrize("acks", [0, 1])
def test_both_queues_say_so_too(redis_url: str, acks: int) -> None:
    async def ask() -> None:
        async with AsyncQueue(redis_url, Settings(replicas_ack=acks), retry=NEVER) as queue:
            for verb in QUEUE.values():
                with pytest.raises(RedisUnavailable):
                    await verb(queue)

    with Queue(redis_url, Settings(replicas_ack=acks), retry=NEVER) as queue:
        for verb in QUEUE.values():
            with pytest.raises(RedisUnavailable):
                verb(queue)
    asyncio.run(ask())


@pytest.mark.usefixtures("refusing")
def test_clients_are_told_503_and_when_to_come_again(redis_url: str) -> None:
    with connect(redis_url) as client, site(Store(client, Settings(replicas_ack=1))) as http:
        answers = [
            http.post("/v1/predictions", data=seven(), content_type="image/png"),
            http.get(f"/v1/predictions/{ID}"),
            http.delete(f"/v1/predictions/{ID}"),
            http.get(f"/v1/batches/{ID}"),
        ]
        assert [answer.status_code for answer in answers] == [503] * 4
        assert all(int(answer.headers["Retry-After"]) >= 1 for answer in answers)
        assert {answer.json["code"] for answer in answers if answer.json} == {"redis_unavailable"}


ABSENT = {
    "redis://:hunter2@127.0.0.1:1/0": "Redis cannot be reached: redis://:***@127.0.0.1:1/0. Is it running? ",
    "redis+sentinel://:hunter2@127.0.0.1:1/one": "No sentinel knows a primary of Redis: redis+sentinel://:***@127.0.0.1:1",
}


@pytest.mark.parametrize("url", ABSENT)
def test_both_queues_name_the_address_where_nobody_answers(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sentinel, "FIRST_SECONDS", 0.02)

    async def ask() -> list[str]:
        async with AsyncQueue(url, retry=NEVER) as queue:
            return [await said_by(verb(queue)) for verb in QUEUE.values()]

    async def said_by(call: Any) -> str:
        with pytest.raises(RedisUnavailable) as caught:
            await call
        return str(caught.value)

    with Queue(url, retry=NEVER) as queue:
        said = []
        for verb in QUEUE.values():
            with pytest.raises(RedisUnavailable) as caught:
                verb(queue)
            said.append(str(caught.value))
    for text in said + asyncio.run(ask()):
        assert text.startswith(ABSENT[url]) and "hunter2" not in text and text.count("Is it running?") == 1
