"""`AsyncClient` and `AsyncQueue`: the twins of `Client` and `Queue` for asyncio."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any, Self

import httpx

from producer.client import wire
from producer.client.http import authorization
from producer.client.many import AHEAD, PARALLEL, Picture, Rota, named
from producer.client.retry import Retry
from producer.client.wire import Call, Steps, T
from producer.uploads.received import Pictures, gathered
from shared.batch import Batch
from shared.keys import Priority
from shared.prediction import Prediction


class AsyncMany(ABC):
    """What both twins do with predictions, made of what they do with one."""

    @abstractmethod
    async def submit(
        self, image: bytes, filename: str = "", *, priority: Priority | str = Priority.NORMAL, idempotency_key: str = ""
    ) -> Prediction:
        """Hands in one picture."""

    @abstractmethod
    async def get(self, id: str, wait: float = 0) -> Prediction:
        """A prediction as it stands, or as it has ended within `wait` seconds."""

    @abstractmethod
    async def get_batch(self, id: str, wait: float = 0) -> Batch:
        """A batch as it stands, or as it has ended within `wait` seconds."""

    @abstractmethod
    async def aclose(self) -> None:
        """Closes the connections."""

    async def result(self, prediction: Prediction, timeout: float = 30) -> Prediction:
        """The prediction once it has succeeded. Raises TimeoutError after `timeout` seconds, PredictionFailed."""
        return (await self._look(prediction, timeout)).wait(timeout)

    async def batch_result(self, batch: Batch, timeout: float = 60) -> Batch:
        """The batch once all its pictures have ended, in whatever way. Raises TimeoutError after `timeout` seconds."""
        ended = await self.get_batch(batch.id, timeout)
        if not ended.state.terminal:
            raise TimeoutError(f"batch {batch.id} is {ended.state.value} after {timeout:g} s")
        return ended

    async def submit_many(
        self, images: Iterable[Picture], *, priority: Priority | str = Priority.NORMAL, parallel: int = PARALLEL
    ) -> list[Prediction]:
        """Hands in pictures, alone or as (name, bytes), `parallel` at a time; their predictions, in order.

        Raises the first error that `submit` raises; those that were accepted before stay so.
        """
        room, found = asyncio.Semaphore(parallel), list[Prediction]()
        ahead: deque[asyncio.Task[Prediction]] = deque()

        async def one(picture: Picture) -> Prediction:
            name, data = named(picture)
            async with room:
                return await self.submit(data, name, priority=priority)

        try:
            for picture in images:
                ahead.append(asyncio.create_task(one(picture)))
                if len(ahead) >= AHEAD * parallel:
                    found.append(await ahead.popleft())
            while ahead:
                found.append(await ahead.popleft())
        finally:
            await _cancelled(ahead)
        return found

    async def as_completed(
        self, predictions: Iterable[Prediction], timeout: float = 60, *, parallel: int = PARALLEL
    ) -> AsyncIterator[Prediction]:
        """Predictions as they end, in whatever way. Raises TimeoutError after `timeout` s, or what `get` raises."""
        rota, running = Rota(predictions, timeout, parallel), set[asyncio.Task[Prediction]]()
        try:
            while True:
                running |= {asyncio.create_task(self._look(one, secs)) for one, secs in rota.due(len(running))}
                if not running:
                    return
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for one in filter(rota.has_ended, [task.result() for task in done]):
                    yield one
        finally:
            await _cancelled(running)

    async def _look(self, prediction: Prediction, seconds: float) -> Prediction:
        return prediction if prediction.state.terminal else await self.get(prediction.id, seconds)

    async def wait(self, predictions: Iterable[Prediction], timeout: float = 60) -> list[Prediction]:
        """The same predictions once all have ended, in whatever way. Raises TimeoutError after `timeout` seconds."""
        wanted = list(predictions)
        ended = {one.id: one async for one in self.as_completed(wanted, timeout)}
        return [ended[one.id] for one in wanted]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


async def _cancelled(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Ends what is still under way."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class AsyncClient(AsyncMany):
    """`Client` for asyncio, with the same arguments, errors, retries and idempotency keys.

    >>> async def main() -> int:
    ...     async with AsyncClient(url) as client:
    ...         prediction = await client.submit(image, filename="im7.png")
    ...         return (await client.result(prediction, timeout=10)).digit
    >>> asyncio.run(main())
    7
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float = 10,
        retry: Retry = Retry(),  # noqa: B008  # frozen
    ) -> None:
        url, api_key = wire.target(url, api_key)
        self._http = httpx.AsyncClient(base_url=url, headers=authorization(api_key), timeout=timeout)
        self._timeout, self._retry = timeout, retry

    async def submit(
        self, image: bytes, filename: str = "", *, priority: Priority | str = Priority.NORMAL, idempotency_key: str = ""
    ) -> Prediction:
        """Hands in one picture. Raises the error whose code the server answers, or ServerUnavailable."""
        steps = wire.submit(image, filename, priority, idempotency_key, self._retry)
        return Prediction.from_json(await self._run(steps))

    async def get(self, id: str, wait: float = 0) -> Prediction:
        """A prediction as it stands, or as it has ended within `wait` seconds. Raises NotFound, Expired, Lost."""
        return Prediction.from_json(await self._run(wire.read(f"/v1/predictions/{id}", wait, self._retry)))

    async def cancel(self, id: str) -> None:
        """Takes a waiting picture back, or forgets one that has ended. Raises StillRunning, NotFound."""
        await self._run(wire.delete(f"/v1/predictions/{id}", self._retry))

    async def submit_batch(
        self, batch: Pictures, *, priority: Priority | str = Priority.LOW, idempotency_key: str = ""
    ) -> Batch:
        """Hands in many pictures, all or none: a zip or an IDX file, or pictures, each with or without a name."""
        with gathered(batch) as body:
            found = await self._run(wire.submit_batch(body, priority, idempotency_key, self._retry))
        return Batch.from_fields(found["id"], found)

    async def get_batch(self, id: str, wait: float = 0) -> Batch:
        """A batch as it stands, or as it has ended within `wait` seconds. Raises NotFound, Expired, Lost."""
        return Batch.from_fields(id, await self._run(wire.read(f"/v1/batches/{id}", wait, self._retry)))

    async def results(self, id: str) -> Iterator[dict[str, Any]]:
        """The results of a batch as they stand, in the order of its pictures; see `shared.batch.COLUMNS`."""
        return await self._run(wire.results(id, self._retry))

    async def cancel_batch(self, id: str) -> None:
        """Takes back what of a batch waits, or forgets one that has ended. Raises StillRunning, NotFound."""
        await self._run(wire.delete(f"/v1/batches/{id}", self._retry))

    async def status(self) -> wire.Json:
        """How busy queue and workers are, and how many would be needed: what `GET /v1/status` answers."""
        return await self._run(wire.status(self._retry))

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def _run(self, steps: Steps[T]) -> T:
        return await wire.run_async(steps, self._send, asyncio.sleep)

    async def _send(self, call: Call) -> httpx.Response:
        options = call.options(self._timeout)
        if isinstance(options["content"], Iterator):
            options["content"] = _async(options["content"])
        return await self._http.request(call.method, call.path, **options)


async def _async(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """The same pieces, as httpx wants them from asyncio; they come from a file on this machine."""
    for piece in pieces:
        yield piece
