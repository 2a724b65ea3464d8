"""Runs the operations on the calling thread: whatever they await blocks it."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import httpx2

from producer.client.http_operations import HttpOperations
from producer.client.http_requests import Request, authorization
from producer.client.redis_operations import RedisOperations
from producer.client.retry import Retry
from producer.serving.blocking import BlockingWaiting
from shared.prediction import Prediction
from shared.settings import Settings
from shared.submission import Submission

T = TypeVar("T")


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return the result of a coroutine that blocks its thread wherever it waits, and so never suspends."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    coroutine.close()
    raise RuntimeError("the coroutine needs an event loop")


async def _sleep(seconds: float) -> None:
    """Blocks the calling thread, for coroutines that `run` drives."""
    time.sleep(seconds)


class BlockingHttp(HttpOperations):
    """The operations over HTTP, on the calling thread."""

    _sleep = staticmethod(_sleep)

    def __init__(self, url: str, api_key: str | None, timeout: float, retry: Retry) -> None:
        self._http = httpx2.Client(base_url=url, headers=authorization(api_key), timeout=timeout)
        self._timeout, self._retry = timeout, retry

    async def _call(self, function: Callable[..., T], *args: Any) -> T:
        return function(*args)

    async def _send(self, request: Request) -> httpx2.Response:
        return self._http.request(request.method, request.path, **request.options(self._timeout))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


class BlockingRedis(RedisOperations):
    """The operations on Redis, on the calling thread."""

    _sleep = staticmethod(_sleep)

    def __init__(self, url: str | None, settings: Settings | None, retry: Retry) -> None:
        super().__init__(url, settings, retry)
        self._waiting = BlockingWaiting(self._store)

    async def _submit_once(self, submission: Submission) -> Prediction:
        return self._waiting.submit(submission)

    async def _read_once(self, id: str, seconds: float) -> Prediction:
        return self._waiting.fetch(id, seconds)

    async def _call(self, function: Callable[..., T], *args: Any) -> T:
        return function(*args)

    def close(self) -> None:
        """Close the connections."""
        self._waiting.close()
        self._store.client.close()
