"""The asyncio clients: `AsyncClient` over HTTP and `AsyncQueue` straight to Redis."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self, TypeVar

import httpx2

from producer.client.bulk import PARALLEL, PollSchedule, cancel_all, map_in_order_async
from producer.client.http_operations import HttpOperations
from producer.client.http_requests import Request, authorization, server_and_key
from producer.client.images import Image, Picture
from producer.client.redis_operations import RedisOperations
from producer.client.retry import Retry
from producer.serving.waiting import Waiting
from shared.batch import Batch
from shared.keys import Priority
from shared.numbers import Read
from shared.prediction import Prediction
from shared.settings import Settings
from shared.submission import Submission

T = TypeVar("T")


class _AsyncBulk(ABC):
    """The methods that `AsyncClient` and `AsyncQueue` build on those for one picture."""

    @abstractmethod
    async def submit(
        self, image: Image, filename: str = "", *, priority: Priority | str = Priority.NORMAL,
        idempotency_key: str = "", read: Read = "digit",
    ) -> Prediction:  # fmt: skip
        """Submit one picture."""

    @abstractmethod
    async def get(self, id: str, wait: float = 0) -> Prediction:
        """Return a prediction, once it has ended or `wait` seconds are over."""

    @abstractmethod
    async def get_batch(self, id: str, wait: float = 0) -> Batch:
        """Return a batch, once it has ended or `wait` seconds are over."""

    @abstractmethod
    async def aclose(self) -> None:
        """Close the connections."""

    async def result(self, prediction: Prediction, timeout: float = 30) -> Prediction:
        """Return the prediction once it has succeeded. Raises TimeoutError after `timeout` s, PredictionFailed."""
        return (await self._ended(prediction, timeout)).succeeded(timeout)

    async def batch_result(self, batch: Batch, timeout: float = 60) -> Batch:
        """Return the batch once all its pictures have ended, in any state. Raises TimeoutError after `timeout` s."""
        return (await self.get_batch(batch.id, timeout)).ended(timeout)

    async def submit_many(
        self, images: Iterable[Picture], *, priority: Priority | str = Priority.NORMAL, parallel: int = PARALLEL,
        read: Read = "digit",
    ) -> list[Prediction]:  # fmt: skip
        """Submit pictures, each alone or as (name, bytes), `parallel` at a time; return predictions in their order.

        Raises the first error of `submit`; pictures accepted before it stay accepted.
        """

        async def submit(picture: Picture) -> Prediction:
            name, image = picture if isinstance(picture, tuple) else ("", picture)
            return await self.submit(image, name, priority=priority, read=read)

        return [one async for one in map_in_order_async(submit, images, parallel)]

    async def as_completed(
        self, predictions: Iterable[Prediction], timeout: float = 60, *, parallel: int = PARALLEL
    ) -> AsyncIterator[Prediction]:
        """Yield predictions as they end, in any state. Raises TimeoutError after `timeout` seconds, and as `get`."""
        schedule, running = PollSchedule(predictions, timeout, parallel), set[asyncio.Task[Prediction]]()
        try:
            while True:
                running |= {asyncio.create_task(self._ended(one, secs)) for one, secs in schedule.due(len(running))}
                if not running:
                    return
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for one in filter(schedule.has_ended, [task.result() for task in done]):
                    yield one
        finally:
            await cancel_all(running)

    async def _ended(self, prediction: Prediction, seconds: float) -> Prediction:
        return prediction if prediction.state.terminal else await self.get(prediction.id, seconds)

    async def wait(self, predictions: Iterable[Prediction], timeout: float = 60) -> list[Prediction]:
        """Return the same predictions once all have ended, in any state. Raises TimeoutError after `timeout` s."""
        wanted = list(predictions)
        ended = {one.id: one async for one in self.as_completed(wanted, timeout)}
        return [ended[one.id] for one in wanted]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class AsyncClient(HttpOperations, _AsyncBulk):
    """`Client` for asyncio, with the same arguments, errors, retries and idempotency keys.

    >>> async def main() -> int:
    ...     async with AsyncClient(url) as client:
    ...         prediction = await client.submit(image, filename="im7.png")
    ...         return (await client.result(prediction, timeout=10)).digit
    >>> asyncio.run(main())
    7
    """

    _sleep = staticmethod(asyncio.sleep)

    def __init__(
        self, url: str | None = None, api_key: str | None = None, *, timeout: float = 10,
        retry: Retry = Retry(),  # noqa: B008  # frozen
    ) -> None:  # fmt: skip
        url, api_key = server_and_key(url, api_key)
        self._http = httpx2.AsyncClient(base_url=url, headers=authorization(api_key), timeout=timeout)
        self._timeout, self._retry = timeout, retry

    async def _send(self, request: Request) -> httpx2.Response:
        options = request.options(self._timeout)
        if isinstance(options["content"], Iterator):
            options["content"] = _as_async(options["content"])
        return await self._http.request(request.method, request.path, **options)

    async def _call(self, function: Callable[..., T], *args: Any) -> T:
        return await asyncio.to_thread(function, *args)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()


async def _as_async(blocks: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the same blocks in the form that httpx2 requires with asyncio; they are read from a local file."""
    for block in blocks:
        yield block


class AsyncQueue(RedisOperations, _AsyncBulk):
    """`Queue` for asyncio, with the same arguments, errors, retries and idempotency keys.

    >>> async def main() -> int:
    ...     async with AsyncQueue(redis_url) as queue:
    ...         return (await queue.result(await queue.submit(image), timeout=10)).digit
    >>> asyncio.run(main())
    7
    """

    _sleep = staticmethod(asyncio.sleep)

    def __init__(
        self, url: str | None = None, settings: Settings | None = None, *,
        retry: Retry = Retry(),  # noqa: B008  # frozen
    ) -> None:  # fmt: skip
        super().__init__(url, settings, retry)
        # For what blocks on Redis; a caller that waits for a prediction holds no thread.
        self._threads = ThreadPoolExecutor(thread_name_prefix="digitq")
        self._waiting: tuple[asyncio.AbstractEventLoop, Waiting] | None = None

    async def _submit_once(self, submission: Submission) -> Prediction:
        return await (await self._waiting_here()).submit(submission)

    async def _read_once(self, id: str, seconds: float) -> Prediction:
        return await (await self._waiting_here()).fetch(id, seconds)

    async def _call(self, function: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *args)

    async def _waiting_here(self) -> Waiting:
        """Return the `Waiting` of the running loop, and close that of an earlier loop."""
        loop, before = asyncio.get_running_loop(), self._waiting
        if before is None or before[0] is not loop:
            self._waiting = loop, Waiting(self._store)
            if before is not None:
                await self._call(before[1].close)
        assert self._waiting is not None
        return self._waiting[1]

    async def aclose(self) -> None:
        """Close the connections."""
        if self._waiting is not None:
            loop, waiting = self._waiting
            if loop is asyncio.get_running_loop():
                waiting.stop()
            await self._call(waiting.close)
        self._store.client.close()
        self._threads.shutdown(wait=False)
