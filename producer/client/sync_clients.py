"""The blocking clients: `Client` over HTTP and `Queue` straight to Redis."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from producer.client.blocking import BlockingHttp, BlockingRedis, run
from producer.client.bulk import PARALLEL, PollSchedule, map_in_order
from producer.client.http_operations import HttpOperations
from producer.client.http_requests import server_and_key
from producer.client.images import Picture
from producer.client.retry import Retry
from shared.batch import Batch
from shared.keys import Priority
from shared.numbers import Read
from shared.prediction import Prediction
from shared.settings import Settings

P = ParamSpec("P")
T = TypeVar("T")


def _blocking(
    operation: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[_Blocking, P], T]:
    """Make a blocking method of an operation. A prediction or batch that it returns has a working `wait`."""

    @wraps(operation)
    def call(self: _Blocking, /, *args: P.args, **options: P.kwargs) -> T:
        found: Any = run(getattr(self._operations, operation.__name__)(*args, **options))
        return replace(found, source=self) if hasattr(found, "source") else found  # type: ignore[no-any-return]

    return call


class _Blocking:
    """The methods that `Client` and `Queue` have in common."""

    _operations: BlockingHttp | BlockingRedis

    submit = _blocking(HttpOperations.submit)
    get = _blocking(HttpOperations.get)
    cancel = _blocking(HttpOperations.cancel)
    submit_batch = _blocking(HttpOperations.submit_batch)
    get_batch = _blocking(HttpOperations.get_batch)
    results = _blocking(HttpOperations.results)
    cancel_batch = _blocking(HttpOperations.cancel_batch)

    def submit_many(
        self, images: Iterable[Picture], *, priority: Priority | str = Priority.NORMAL, parallel: int = PARALLEL,
        read: Read = "digit",
    ) -> list[Prediction]:  # fmt: skip
        """Submit pictures, each alone or as (name, bytes), `parallel` at a time; return predictions in their order.

        Raises the first error of `submit`; pictures accepted before it stay accepted. For thousands of pictures, or to
        accept all or none, use `submit_batch`.

        >>> [one.state.value for one in client.submit_many([image, ("im7.png", image)])]
        ['queued', 'queued']
        """

        def submit(picture: Picture) -> Prediction:
            name, image = picture if isinstance(picture, tuple) else ("", picture)
            return self.submit(image, name, priority=priority, read=read)

        return list(map_in_order(submit, images, parallel))

    def as_completed(
        self, predictions: Iterable[Prediction], timeout: float = 60, *, parallel: int = PARALLEL
    ) -> Iterator[Prediction]:
        """Yield predictions as they end, in any state. Raises TimeoutError after `timeout` seconds, and as `get`.

        >>> sorted(one.digit for one in client.as_completed(client.submit_many([image] * 3), timeout=10))
        [7, 7, 7]
        """
        schedule, pool = PollSchedule(predictions, timeout, parallel), ThreadPoolExecutor(parallel)
        running: set[Future[Prediction]] = set()
        try:
            while True:
                running |= {pool.submit(self._ended, one, seconds) for one, seconds in schedule.due(len(running))}
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                yield from filter(schedule.has_ended, [one.result() for one in done])
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _ended(self, prediction: Prediction, seconds: float) -> Prediction:
        return prediction if prediction.state.terminal else self.get(prediction.id, seconds)

    def wait(self, predictions: Iterable[Prediction], timeout: float = 60) -> list[Prediction]:
        """Return the same predictions once all have ended, in any state. Raises TimeoutError after `timeout` seconds.

        >>> [one.digit for one in client.wait(client.submit_many([image, image]))]
        [7, 7]
        """
        wanted = list(predictions)
        ended = {one.id: one for one in self.as_completed(wanted, timeout)}
        return [ended[one.id] for one in wanted]

    def close(self) -> None:
        """Close the connections."""
        self._operations.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Client(_Blocking):
    """digitq over HTTP. One object serves any number of threads and reuses its connections.

    >>> with Client(url) as client:
    ...     print(client.submit(image, filename="im7.png").wait(timeout=10).digit)
    ...     batch = client.submit_batch([("one.png", image), b"no picture"]).wait(timeout=10)
    ...     print([(row["filename"], row["digit"]) for row in batch.results()])
    ...     print(client.get(client.submit(image, priority="high").id, wait=10).digit)
    ...     print(client.submit(image, read="numbers").wait(timeout=10).numbers[0].text)
    7
    [('one.png', 7), (None, None)]
    7
    7

    Calls are repeated as `retry` says while the server is busy, unavailable or unreachable. Each submit carries an
    idempotency key, a new one if none is given, so that no picture is accepted twice. `timeout` bounds one attempt, in
    seconds beyond the time that the server is asked to wait. Without a `url` both it and the key come from the
    environment: DIGITQ_URL (else DIGITQ_HOST and DIGITQ_PORT) and DIGITQ_API_KEY. Raises SettingsError.
    """

    _operations: BlockingHttp

    def __init__(
        self, url: str | None = None, api_key: str | None = None, *, timeout: float = 10,
        retry: Retry = Retry(),  # noqa: B008  # frozen
    ) -> None:  # fmt: skip
        self._operations = BlockingHttp(*server_and_key(url, api_key), timeout, retry)

    status = _blocking(HttpOperations.status)

    def list_batches(self, limit: int = 20, cursor: str | None = None) -> tuple[list[Batch], str | None]:
        """Return a page of up to 100 batches, newest first, and the cursor of the next page (None after the last)."""
        page, following = run(self._operations.list_batches(limit, cursor))
        return [replace(batch, source=self) for batch in page], following


class Queue(_Blocking):
    """digitq over Redis, without a web process. One object serves any number of threads.

    >>> with Queue(redis_url) as queue:
    ...     queue.submit(image, filename="im7.png").wait(timeout=10).digit
    7

    Calls are repeated as `retry` says while Redis is full or unreachable. Each submit carries an idempotency key, a new
    one if none is given, so that no picture is accepted twice.
    """

    _operations: BlockingRedis

    def __init__(
        self, url: str | None = None, settings: Settings | None = None, *,
        retry: Retry = Retry(),  # noqa: B008  # frozen
    ) -> None:  # fmt: skip
        self._operations = BlockingRedis(url, settings, retry)
        self.settings = self._operations.settings
