"""The blocking and the asyncio clients: whom they ask, in which order, and for how long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest

from producer import AsyncClient, AsyncQueue, Client, Queue
from producer.client import async_clients, sync_clients
from producer.client.bulk import PARALLEL
from shared.prediction import Prediction, State
from shared.settings import Settings
from shared.store import Store
from tests.answering import finish
from tests.pictures import idx, seven

BATCH = {"id": "b", "state": "finished", "total": 2, "succeeded": 2}


class Server:
    """Accepts pictures under their names, and ends a prediction when it is asked for with a wait."""

    def __init__(self) -> None:
        self.asked: list[httpx2.Request] = []
        self.busy = self.most = 0

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append(request)
        if request.method == "POST":
            if request.url.path == "/v1/batches":
                return httpx2.Response(202, json=BATCH | {"state": "queued"})
            return httpx2.Response(202, json={"id": request.url.params.get("filename") or "x", "state": "queued"})
        if request.url.path == "/v1/batches":
            return httpx2.Response(200, json={"batches": [BATCH], "next_cursor": "c"})
        if request.url.path.startswith("/v1/batches"):
            return httpx2.Response(200, json=BATCH)
        state = "succeeded" if float(request.url.params["wait"]) else "running"
        return httpx2.Response(200, json={"id": request.url.path.rpartition("/")[2], "state": state, "digit": 7})

    async def later(self, request: httpx2.Request) -> httpx2.Response:
        self.busy += 1
        self.most = max(self.most, self.busy)
        await asyncio.sleep(0)
        self.busy -= 1
        return self(request)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def sdk(server: Server) -> Iterator[Client]:
    with Client("http://nowhere", "key", timeout=3) as one:
        one._operations._http.close()
        one._operations._http = httpx2.Client(base_url="http://nowhere", transport=httpx2.MockTransport(server))
        yield one


def on_a_loop(server: Server, ask: Callable[[AsyncClient], Any]) -> Any:
    """Return the answer of an asyncio client of this server."""

    async def main() -> Any:
        async with AsyncClient("http://nowhere", "key", timeout=3) as one:
            await one._http.aclose()
            one._http = httpx2.AsyncClient(base_url="http://nowhere", transport=httpx2.MockTransport(server.later))
            return await ask(one)

    return asyncio.run(main())


NAMED = [(f"{n}", seven()) for n in range(5)]


def test_predictions_of_many_are_in_the_order_of_the_pictures(sdk: Client, server: Server) -> None:
    assert [one.id for one in sdk.submit_many(NAMED, priority="high", read="numbers")] == list("01234")
    assert {(one.url.params["priority"], one.url.params["read"]) for one in server.asked} == {("high", "numbers")}
    found = on_a_loop(server, lambda one: one.submit_many(NAMED, priority="high", read="numbers", parallel=2))
    assert [one.id for one in found] == list("01234") and server.most == 2
    assert {(one.url.params["priority"], one.url.params["read"]) for one in server.asked} == {("high", "numbers")}


def test_a_picture_without_a_name_may_be_one_of_many(sdk: Client, server: Server) -> None:
    assert [one.id for one in sdk.submit_many([seven(), ("a", seven())])] == ["x", "a"]
    assert [one.id for one in on_a_loop(server, lambda one: one.submit_many([seven(), ("a", seven())]))] == ["x", "a"]


def test_an_ended_prediction_is_not_asked_for_again(sdk: Client, server: Server) -> None:
    ended, runs = Prediction("e", State.FAILED), Prediction("r", State.RUNNING)
    assert sdk.wait([ended, runs])[0] is ended
    assert [request.url.path for request in server.asked] == ["/v1/predictions/r"]
    first, second = on_a_loop(server, lambda one: one.wait([ended, runs]))
    assert (first, second.state, len(server.asked)) == (ended, State.SUCCEEDED, 2)


def test_those_that_are_waited_for_keep_their_order(sdk: Client, server: Server) -> None:
    several = [Prediction(id, State.FAILED if id == "c" else State.QUEUED) for id in "abc"]
    assert [one.id for one in sdk.wait(several)] == list("abc")
    assert [one.id for one in on_a_loop(server, lambda one: one.wait(several))] == list("abc")


def test_nothing_to_wait_for_is_at_an_end(sdk: Client, server: Server) -> None:
    assert list(sdk.as_completed([])) == sdk.wait([]) == on_a_loop(server, lambda one: one.wait([])) == []


def test_results_can_be_waited_for(sdk: Client, server: Server) -> None:
    assert sdk.submit(seven(), "a").wait(5).digit == 7
    assert sdk.submit_batch([seven()]).wait(5).total == 2
    assert sdk.get("x").refresh().id == "x"
    [batch], cursor = sdk.list_batches()
    assert (batch.refresh().succeeded, cursor) == (2, "c")

    async def ask(one: AsyncClient) -> tuple[Prediction, Any]:
        prediction = await one.result(await one.submit(seven(), "a"), 5)
        return prediction, await one.batch_result(await one.submit_batch([seven()]), 5)

    prediction, batch = on_a_loop(server, ask)
    assert (prediction.digit, batch.total) == (7, 2)


def test_what_has_not_ended_in_time_is_an_error(sdk: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server()

    async def running(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, json={"id": "x", "state": "running"})

    monkeypatch.setattr(server, "later", running)
    for verb in ("result", "batch_result"):
        with pytest.raises(TimeoutError, match=r"x is still \w+ after 0 s"):
            on_a_loop(server, lambda one, verb=verb: getattr(one, verb)(Prediction("x", State.QUEUED), 0))


def test_a_client_has_its_key_its_timeout_and_its_retry() -> None:
    with Client("http://nowhere", "key", timeout=3) as one:
        assert one._operations._http.headers["Authorization"] == "Bearer key"
        assert one._operations._timeout == one._operations._http.timeout.read == 3

    async def main() -> AsyncClient:
        async with AsyncClient("http://nowhere", "key", timeout=3) as one:
            return one

    other = asyncio.run(main())
    assert other._http.headers["Authorization"] == "Bearer key" and other._http.is_closed
    assert other._timeout == other._http.timeout.read == 3 and one._operations._http.is_closed


def test_a_file_is_sent_in_blocks_on_a_loop_too(server: Server) -> None:
    bodies: list[bytes] = []

    async def read(request: httpx2.Request) -> httpx2.Response:
        bodies.append(await request.aread())
        return server(request)

    server.later = read  # type: ignore[method-assign]
    data = idx(1)
    assert on_a_loop(server, lambda one: one.submit_batch(data)).id == "b"
    assert bodies == [data]


def test_as_many_as_usual_are_sent_at_a_time(server: Server) -> None:
    on_a_loop(server, lambda one: one.submit_many([(str(n), seven()) for n in range(3 * PARALLEL)]))
    assert server.most == PARALLEL == sync_clients.PARALLEL == async_clients.PARALLEL


def test_a_queue_reads_and_waits_without_a_web_process(store: Store, settings: Settings) -> None:
    with Queue(settings=settings) as queue:
        id = queue.submit(seven()).id
        finish(store)
        assert queue.get(id, 5).state is State.SUCCEEDED and queue.settings is settings
        assert queue.wait([queue.get(id)])[0].id == id

    async def main() -> tuple[str, bool]:
        async with AsyncQueue(settings=settings) as other:
            found = await other.get(id, 5)
            await other.get(id, 1)
            threads = other._threads
        return found.id, threads._shutdown

    assert asyncio.run(main()) == (id, True)


def test_an_async_queue_may_be_used_on_one_loop_after_another(store: Store, settings: Settings) -> None:
    id = store.submit(seven()).id
    finish(store)
    queue = AsyncQueue(settings=settings)

    async def read() -> Any:
        assert (await queue.get(id, 1)).id == id
        return queue._waiting

    async def read_and_close() -> Any:
        waiting = await read()
        await queue.aclose()
        return waiting

    first, second = asyncio.run(read()), asyncio.run(read_and_close())
    assert first[1] is not second[1]
