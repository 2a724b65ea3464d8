"""The Python clients: their examples as they stand in the docstrings, lost connections, retries, waiting for many."""

from __future__ import annotations

import asyncio
import doctest
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import httpx2
import pytest
import redis

import producer
from producer import NEVER, AsyncClient, AsyncQueue, Client, Prediction, Queue, Retry, State
from producer.client import async_clients, retry, sync_clients
from producer.serving.line import LoopCalls
from shared import keys
from shared.batch import BatchState
from shared.errors import (
    IdempotencyMismatch,
    MalformedBatch,
    PredictionFailed,
    QueueFull,
    RedisUnavailable,
    ServerUnavailable,
)
from shared.operations.predictions import Record
from shared.operations.submissions import Answer
from shared.settings import Settings
from shared.store import Store
from shared.submission import Submission
from tests.pictures import seven
from tests.proxy import proxy
from tests.stack import Stack
from tests.waits import until
from tests.web import Web, sevens, web

#: Patient, and quick: for connections that break again and again.
EAGER = Retry(attempts=12, first=0.01, longest=0.05)


@pytest.fixture
def site(store: Store) -> Iterator[Web]:
    with web(store) as running:
        yield running


def pictures(count: int) -> list[tuple[str, bytes]]:
    """All different, so that a mix-up would show."""
    return [(f"{n}.png", seven(28 + n)) for n in range(count)]


def accepted(redis: redis.Redis) -> int:
    return int(redis.zcard(keys.RECENT))


# ---------------------------------------------------------------------- the documentation

EXAMPLES = [
    test
    for module in (sync_clients, async_clients)
    for test in doctest.DocTestFinder(exclude_empty=True).find(module)
    if test.examples
]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda test: test.name)
def test_the_examples_of_the_docstrings_are_true(example: doctest.DocTest, stack: Stack) -> None:
    with Client(stack.url) as client:
        names = {name: getattr(producer, name) for name in producer.__all__}
        example.globs = {**names, "client": client, "url": stack.url, "redis_url": stack.redis_url, "image": seven(),
                         "asyncio": asyncio}  # fmt: skip
        report: list[str] = []
        assert doctest.DocTestRunner().run(example, out=report.append).failed == 0, "".join(report)


def test_every_client_has_an_example_of_its_own() -> None:
    named = {example.name.rpartition(".")[2] for example in EXAMPLES}
    assert {"Client", "Queue", "AsyncClient", "AsyncQueue", "submit_many", "as_completed", "wait"} <= named


@pytest.mark.parametrize("pair", [(Client, AsyncClient), (Queue, AsyncQueue)])
def test_the_twins_have_the_same_verbs(pair: tuple[type, type]) -> None:
    one, twin = ({name for name in dir(cls) if not name.startswith("_")} for cls in pair)
    assert one - {"close"} == twin - {"aclose", "result", "batch_result"}


# ---------------------------------------------------------------------- connections that break


def test_requests_with_lost_answers_are_repeated_and_nothing_is_submitted_twice(site: Web, client: redis.Redis) -> None:
    with proxy(site.url, lambda n: n % 3 == 0) as broken, Client(broken.url, retry=EAGER) as sdk:
        found = sdk.submit_many(pictures(60))
    assert broken.cuts >= 20 and site.posts() >= 80
    assert [one.filename for one in found] == [f"{n}.png" for n in range(60)]
    assert (len({one.id for one in found}), accepted(client)) == (60, 60)


def test_requests_with_lost_answers_are_repeated_from_asyncio(site: Web, client: redis.Redis) -> None:
    async def main(url: str) -> list[Prediction]:
        async with AsyncClient(url, retry=EAGER) as sdk:
            return await sdk.submit_many(pictures(60))

    with proxy(site.url, lambda n: n % 3 == 0) as broken:
        found = asyncio.run(main(broken.url))
    assert broken.cuts >= 20
    assert [one.filename for one in found] == [f"{n}.png" for n in range(60)]
    assert (len({one.id for one in found}), accepted(client)) == (60, 60)


def test_a_batch_whose_answer_is_lost_is_submitted_once(site: Web, client: redis.Redis) -> None:
    async def main(url: str, images: list[bytes]) -> str:
        async with AsyncClient(url, retry=EAGER) as sdk:
            return (await sdk.submit_batch(images)).id

    images = [image for _, image in pictures(20)]
    with proxy(site.url, lambda n: n in (1, 2)) as broken, Client(broken.url, retry=EAGER) as sdk:
        assert sdk.submit_batch(images).total == 20
        assert broken.cuts == 2
    with proxy(site.url, lambda n: n == 1) as broken:
        assert asyncio.run(main(broken.url, images))
        assert broken.cuts == 1
    assert len(client.keys("digitq:batch:*")) == 2


def test_a_cancel_whose_answer_is_lost_is_not_repeated(site: Web) -> None:
    # The second one would forget what the first has cancelled.
    with proxy(site.url, lambda n: n == 1) as broken, Client(site.url) as sdk, Client(broken.url) as unlucky:
        id = sdk.submit(seven()).id
        with pytest.raises(RedisUnavailable, match="does not answer"):
            unlucky.cancel(id)
        assert sdk.get(id).state.value == "cancelled"
    assert sum(call.startswith("DELETE") for call in site.calls) == 1


def test_without_retries_a_broken_connection_is_an_error_with_its_cause(site: Web) -> None:
    with proxy(site.url, lambda n: True) as broken, Client(broken.url, retry=NEVER) as sdk:
        with pytest.raises(RedisUnavailable, match="digitq does not answer at http://127") as caught:
            sdk.submit(seven())
        assert (type(caught.value), caught.value.code) == (ServerUnavailable, "server_unavailable")
        assert isinstance(caught.value.__cause__, httpx2.TransportError)
        assert broken.cuts == 1


def test_clients_without_a_url_go_where_the_settings_say(site: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> str:
        async with AsyncClient() as sdk:
            return (await sdk.submit(seven())).state.value

    monkeypatch.setenv("DIGITQ_PORT", site.url.rpartition(":")[2])
    monkeypatch.setenv("DIGITQ_API_KEY", "secret")
    with Client() as sdk, Client("http://127.0.0.1:1") as elsewhere:
        assert sdk.submit(seven()).state.value == asyncio.run(main()) == "queued"
        assert sdk._operations._http.headers["Authorization"] == "Bearer secret"
        assert "Authorization" not in elsewhere._operations._http.headers
    monkeypatch.setenv("DIGITQ_URL", "http://127.0.0.1:1")
    with Client(retry=NEVER) as sdk, pytest.raises(ServerUnavailable, match=r"127\.0\.0\.1:1\. Is it running"):
        sdk.submit(seven())


def test_connections_are_kept_and_not_more_than_the_bound_are_opened(stack: Stack) -> None:
    with proxy(stack.url) as between, Client(between.url) as sdk:
        found = sdk.submit_many([seven()] * 200, parallel=4)
        assert len({one.id for one in found}) == 200
        assert between.connections <= 4
        assert {one.digit for one in sdk.wait(found, timeout=60)} == {7}


def test_a_queue_whose_redis_breaks_off_submits_nothing_twice(
    client: redis.Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit_all, lost = Store.submit_all, iter([True, True, False] * 10)

    def unlucky(store: Store, pictures: Sequence[Submission]) -> list[Answer]:
        answers = submit_all(store, pictures)
        if next(lost):
            raise RedisUnavailable("the answer was lost")
        return answers

    monkeypatch.setattr(Store, "submit_all", unlucky)
    monkeypatch.setattr(LoopCalls, "ready", False)  # all go through it
    with Queue(redis_url, Settings(redis_url=redis_url), retry=EAGER) as queue:
        found = queue.submit_many(pictures(10), parallel=1)
    assert (len({one.id for one in found}), accepted(client)) == (10, 10)
    assert next(lost, None) is None  # twenty answers were lost


def test_a_redis_that_fails_late_in_a_long_wait_is_asked_again(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch_all, began = Store.fetch_all, time.monotonic()
    failures: list[float] = []

    def fail_once(store: Store, ids: Sequence[str]) -> list[Record]:
        if time.monotonic() - began > 1 and not failures:
            failures.append(time.monotonic())
            raise RedisUnavailable("for a moment")
        return fetch_all(store, ids)

    monkeypatch.setattr(Store, "fetch_all", fail_once)
    monkeypatch.setattr(LoopCalls, "ready", False)
    monkeypatch.setattr(retry, "POLL_SECONDS", 0.2)
    with Queue(redis_url, retry=Retry(first=0.01, longest=0.01, seconds=0.5)) as queue:
        assert queue.get(queue.submit(seven()).id, wait=2).state is State.QUEUED
    assert failures


def test_queues_that_have_waited_close_at_once(redis_url: str) -> None:
    async def wait_and_close() -> float:
        async with AsyncQueue(redis_url) as queue:
            await queue.get((await queue.submit(seven())).id, wait=0.2)
            began = time.monotonic()
        return time.monotonic() - began

    with Queue(redis_url) as queue:
        queue.get(queue.submit(seven()).id, wait=0.2)
        began = time.monotonic()
    assert time.monotonic() - began < 0.5
    assert asyncio.run(wait_and_close()) < 0.5


def test_errors_of_the_server_reach_both_clients_alike(site: Web, redis_url: str) -> None:
    async def of(call: Awaitable[Any], close: Callable[[], Awaitable[None]]) -> None:
        try:
            await call
        finally:
            await close()

    def twice(url: str) -> None:
        sdk = AsyncClient(url)
        asyncio.run(of(sdk.submit(seven(30), idempotency_key="k"), sdk.aclose))

    with Client(site.url) as sdk, pytest.raises(IdempotencyMismatch):
        sdk.submit(seven(), idempotency_key="k")
        twice(site.url)
    with Queue(redis_url, Settings(queue_max_length=1), retry=NEVER) as queue, pytest.raises(QueueFull):
        queue.submit(seven())
    with Client(site.url) as sdk, pytest.raises(MalformedBatch):
        sdk.submit_batch(b"PK\x03\x04 and no zip")


# ---------------------------------------------------------------------- waiting for many


def test_predictions_come_as_they_end_and_one_that_takes_long_holds_up_nobody(site: Web, store: Store) -> None:
    with Client(site.url) as sdk:
        stuck = sdk.submit(seven())
        [claim] = store.claim("other", keys.QUEUES, 1, "n")
        rest = sdk.submit_many(pictures(5))
        seen = []
        with sevens(store), pytest.raises(TimeoutError, match="1 predictions have not ended after 3 s"):
            for one in sdk.as_completed([*rest[:2], stuck, *rest[2:]], timeout=3, parallel=1):
                seen.append(one.id)
        assert claim.id == stuck.id and sorted(seen) == sorted(one.id for one in rest)


def test_waiting_for_many_keeps_their_order_whatever_they_end_as(site: Web, store: Store) -> None:
    with Client(site.url) as sdk:
        found = sdk.submit_many(pictures(40), parallel=8)
        found[7].cancel()
        with sevens(store, at_once=5):
            ended = sdk.wait(found, timeout=20)
        assert [one.id for one in ended] == [one.id for one in found]
        assert [one.state.value for one in ended] == ["cancelled" if n == 7 else "succeeded" for n in range(40)]
        with pytest.raises(PredictionFailed):
            ended[7].wait()


@pytest.mark.parametrize("kind", ["client", "queue"])
def test_asyncio_waits_for_many_too(kind: str, site: Web, store: Store, redis_url: str) -> None:
    async def main() -> tuple[list[str], list[str], list[int | None]]:
        async with AsyncClient(site.url) if kind == "client" else AsyncQueue(redis_url) as sdk:
            found = await sdk.submit_many(pictures(30))
            ended = await sdk.wait(found, timeout=20)
            last = await sdk.submit(seven())
            assert (await sdk.result(last, timeout=10)).digit == 7
            assert [one.digit async for one in sdk.as_completed([last])] == [7]
            return [one.id for one in found], [one.id for one in ended], [one.digit for one in ended]

    with sevens(store, at_once=7):
        before, after, digits = asyncio.run(main())
    assert before == after and digits == [7] * 30


@pytest.mark.parametrize("kind", ["client", "queue"])
def test_asyncio_gives_up_in_time(kind: str, site: Web, redis_url: str) -> None:
    async def main() -> None:
        async with AsyncClient(site.url) if kind == "client" else AsyncQueue(redis_url) as sdk:
            found = await sdk.submit_many(pictures(2))
            with pytest.raises(TimeoutError, match="2 predictions have not ended"):
                await sdk.wait(found, timeout=0.3)
            with pytest.raises(TimeoutError, match=r"is still queued after 0\.2 s"):
                await sdk.result(found[0], timeout=0.2)
            await sdk.cancel(found[0].id)
            with pytest.raises(PredictionFailed, match="cancelled"):
                await sdk.result(found[0])

    start = time.monotonic()
    asyncio.run(main())
    assert time.monotonic() - start < 8


def test_an_async_queue_is_told_at_once_and_without_a_thread_for_each(
    store: Store, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> float:
        async with AsyncQueue(redis_url) as queue:
            found = await queue.submit_many(pictures(40))
            waits = [asyncio.create_task(queue.get(one.id, wait=30)) for one in found]
            await asyncio.to_thread(until, lambda: queue._waiting and len(queue._waiting[1]._waiters) == 40)
            threads = threading.active_count()
            with sevens(store):
                began = time.monotonic()
                ended = await asyncio.gather(*waits)
            assert all(one.digit == 7 for one in ended) and threads < 40
            return time.monotonic() - began

    monkeypatch.setattr(retry, "POLL_SECONDS", 20)
    assert asyncio.run(main()) < 10


def test_batches_from_asyncio(stack: Stack) -> None:
    async def main(sdk: AsyncClient | AsyncQueue) -> list[int | None]:
        async with sdk:
            batch = await sdk.submit_batch([seven(), b"no picture"], priority="high")
            ended = await sdk.batch_result(batch, timeout=30)
            assert (ended.state, ended.succeeded, ended.failed) == (BatchState.FINISHED, 1, 1)
            return [row["digit"] for row in await sdk.results(batch.id)]

    assert asyncio.run(main(AsyncClient(stack.url))) == [7, None]
    assert asyncio.run(main(AsyncQueue(stack.redis_url))) == [7, None]
