"""digitq's operations over HTTP, as coroutines: `AsyncClient` is made of them, and `Client` runs them."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar

import httpx2

from producer.client.http_errors import Json, error_of, expect_known_states, expect_object, unexpected, unreachable
from producer.client.http_requests import BATCH_SECONDS, Request, batch_request, picture_request
from producer.client.images import Image, PictureBatch, batch_file, name_and_data
from producer.client.retry import Retry, new_key, poll
from producer.uploads.received import gathered
from shared.batch import Batch, BatchResult
from shared.errors import Incomplete
from shared.keys import Priority
from shared.numbers import Read
from shared.prediction import Prediction

T = TypeVar("T")


class HttpOperations(ABC):
    """The operations. A subclass sends requests and sleeps, either on the calling thread or on an event loop."""

    _retry: Retry

    @abstractmethod
    async def _send(self, request: Request) -> httpx2.Response:
        """Send a request once. Raises httpx2.RequestError."""

    @abstractmethod
    async def _call(self, function: Callable[..., T], *args: Any) -> T:
        """Call a function that reads a file or computes."""

    @abstractmethod
    async def _sleep(self, seconds: float, /) -> None:
        """Wait."""

    async def submit(
        self, image: Image, filename: str = "", *, priority: Priority | str = Priority.NORMAL,
        idempotency_key: str = "", read: Read = "digit",
    ) -> Prediction:  # fmt: skip
        """Submit one picture. Raises the error whose code digitq answers (NoImage, QueueFull, …), RedisUnavailable.

        It is an image file's bytes, its path, the open file, an array or a Pillow image: see `images.Image`.
        With `read="numbers"` all numbers in the picture are read, not one digit: see `Prediction.numbers`.
        """
        name, data = (filename, image) if isinstance(image, bytes) else await self._call(name_and_data, image, filename)
        request = picture_request(data, name, Priority(priority), idempotency_key or new_key(), read)
        return _prediction(await self._object(request, "id", "state"))

    async def get(self, id: str, wait: float = 0) -> Prediction:
        """Return a prediction, once it has ended or `wait` seconds are over. Raises NotFound, Expired, Lost."""

        async def look(seconds: float) -> Prediction:
            return _prediction(await self._long_poll(f"/v1/predictions/{id}", seconds))

        return await poll(look, wait, self._sleep)

    async def cancel(self, id: str) -> None:
        """Cancel a waiting prediction or delete one that has ended. Raises StillRunning, NotFound."""
        await self._delete(f"/v1/predictions/{id}")

    async def submit_batch(
        self, batch: PictureBatch, *, priority: Priority | str = Priority.LOW, idempotency_key: str = "",
        read: Read = "digit",
    ) -> Batch:  # fmt: skip
        """Submit many pictures, all or none: a zip or an IDX file, or pictures, each alone or as (name, picture).

        Pictures that cannot be read fail alone. Raises the error whose code digitq answers, such as MalformedBatch.
        """
        with gathered(batch_file(batch)) as body:
            request = batch_request(body, Priority(priority), idempotency_key or new_key(), read)
            return _batch(await self._object(request, "id", "state"))

    async def get_batch(self, id: str, wait: float = 0) -> Batch:
        """Return a batch, once it has ended or `wait` seconds are over. Raises NotFound, Expired, Lost."""

        async def look(seconds: float) -> Batch:
            return _batch(await self._long_poll(f"/v1/batches/{id}", seconds))

        return await poll(look, wait, self._sleep)

    async def list_batches(self, limit: int = 20, cursor: str | None = None) -> tuple[list[Batch], str | None]:
        """Return a page of up to 100 batches, newest first, and the cursor of the next page (None after the last)."""
        params = {"limit": str(limit), **({"cursor": cursor} if cursor else {})}
        page = await self._object(Request("GET", "/v1/batches", params), "batches")
        return [_batch(fields) for fields in page["batches"]], page.get("next_cursor")

    async def results(self, id: str) -> list[BatchResult]:
        """Return the results of a batch so far, in the order of its pictures.

        Raises Incomplete, and ServerUnavailable where the answer breaks off.
        """
        response = await self._response(Request("GET", f"/v1/batches/{id}/results", extra_seconds=BATCH_SECONDS))
        lines, total = response.text.splitlines(), response.headers.get("X-Total-Count")  # older servers omit it
        if total is not None and len(lines) != int(total):
            raise Incomplete(f"{len(lines)} of {total} results have arrived")
        if total is None and not all(line.startswith("{") for line in lines):
            raise unexpected(response)
        return list(map(json.loads, lines))

    async def cancel_batch(self, id: str) -> None:
        """Cancel the waiting pictures of a batch or delete one that has ended. Raises StillRunning, NotFound."""
        await self._delete(f"/v1/batches/{id}")

    async def status(self) -> Json:
        """Return the load of the queue and the workers, and the workers needed, as `GET /v1/status` answers."""
        return await self._object(Request("GET", "/v1/status"), "queued")

    async def _long_poll(self, path: str, seconds: float) -> Json:
        return await self._object(
            Request("GET", path, {"wait": f"{seconds:.3f}"}, extra_seconds=seconds), "id", "state"
        )

    async def _delete(self, path: str) -> None:
        # Not repeatable: a second DELETE would delete what the first one has cancelled.
        response = await self._response(Request("DELETE", path, repeatable=False))
        if response.status_code != 204:
            raise unexpected(response)

    async def _object(self, request: Request, *members: str) -> Json:
        return expect_object(await self._response(request), *members)

    async def _response(self, request: Request) -> httpx2.Response:
        """Return the successful response. Raises the error whose code the server answers, or ServerUnavailable."""

        async def attempt() -> httpx2.Response:
            try:
                response = await self._send(request)
            except httpx2.RequestError as error:
                raise unreachable(error) from error
            if not response.is_success:
                raise error_of(response)
            return response

        return await self._retry.run(attempt, self._sleep, request.may_repeat)


def _prediction(body: Json) -> Prediction:
    with expect_known_states():
        return Prediction.from_json(body)


def _batch(fields: Json) -> Batch:
    with expect_known_states():
        return Batch.from_fields(fields["id"], fields)
