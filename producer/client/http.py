"""Submitting from Python over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx

from producer.client import wire
from producer.client.many import Many
from producer.client.retry import Retry
from producer.client.wire import Call, Steps, T
from producer.uploads.received import Pictures, gathered
from shared.batch import Batch
from shared.keys import Priority
from shared.prediction import Prediction


def authorization(api_key: str | None) -> dict[str, str]:
    """The header that shows an API key."""
    return {"Authorization": f"Bearer {api_key}"} if api_key else {}


class Client(Many):
    """digitq over HTTP. One object serves any number of threads, and keeps its connections for the next call.

    >>> with Client(url) as client:
    ...     client.submit(image, filename="im7.png").wait(timeout=10).digit
    7

    Where the server is busy, out of service or out of reach, calls are repeated as `retry` says; each submit carries an
    idempotency key, one of its own if none is given, so that a picture is never handed in twice. `timeout` is for one
    try, in seconds, beyond the time that the server is asked to wait. Without a `url` both it and the key come from
    the environment: DIGITQ_URL (else DIGITQ_HOST and DIGITQ_PORT) and DIGITQ_API_KEY. Raises SettingsError.
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
        self._http = httpx.Client(base_url=url, headers=authorization(api_key), timeout=timeout)
        self._timeout, self._retry = timeout, retry

    def submit(
        self, image: bytes, filename: str = "", *, priority: Priority | str = Priority.NORMAL, idempotency_key: str = ""
    ) -> Prediction:
        """Hands in one picture. Raises the error whose code the server answers, or ServerUnavailable.

        >>> client.submit(image, priority="high").state.value
        'queued'
        """
        return self._prediction(wire.submit(image, filename, priority, idempotency_key, self._retry))

    def get(self, id: str, wait: float = 0) -> Prediction:
        """A prediction as it stands, or as it has ended within `wait` seconds. Raises NotFound, Expired, Lost.

        >>> client.get(client.submit(image).id, wait=10).digit
        7
        """
        return self._prediction(wire.read(f"/v1/predictions/{id}", wait, self._retry))

    def cancel(self, id: str) -> None:
        """Takes a waiting picture back, or forgets one that has ended. Raises StillRunning, NotFound."""
        self._run(wire.delete(f"/v1/predictions/{id}", self._retry))

    def submit_batch(
        self, batch: Pictures, *, priority: Priority | str = Priority.LOW, idempotency_key: str = ""
    ) -> Batch:
        """Hands in many pictures, all or none: a zip or an IDX file, or pictures, each with or without a name.

        Pictures that cannot be read fail alone. Raises the error whose code the server answers, such as MalformedBatch.

        >>> batch = client.submit_batch([("one.png", image), b"no picture"]).wait(timeout=10)
        >>> [(row["filename"], row["digit"]) for row in batch.results()]
        [('one.png', 7), (None, None)]
        """
        with gathered(batch) as body:
            return self._batch(wire.submit_batch(body, priority, idempotency_key, self._retry))

    def get_batch(self, id: str, wait: float = 0) -> Batch:
        """A batch as it stands, or as it has ended within `wait` seconds. Raises NotFound, Expired, Lost."""
        return self._batch(wire.read(f"/v1/batches/{id}", wait, self._retry))

    def results(self, id: str) -> Iterator[dict[str, Any]]:
        """The results of a batch as they stand, in the order of its pictures; see `shared.batch.COLUMNS`."""
        return self._run(wire.results(id, self._retry))

    def cancel_batch(self, id: str) -> None:
        """Takes back what of a batch waits, or forgets one that has ended. Raises StillRunning, NotFound."""
        self._run(wire.delete(f"/v1/batches/{id}", self._retry))

    def status(self) -> wire.Json:
        """How busy queue and workers are, and how many would be needed: what `GET /v1/status` answers."""
        return self._run(wire.status(self._retry))

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _prediction(self, steps: Steps[wire.Json]) -> Prediction:
        return Prediction.from_json(self._run(steps), self)

    def _batch(self, steps: Steps[wire.Json]) -> Batch:
        body = self._run(steps)
        return Batch.from_fields(body["id"], body, self)

    def _run(self, steps: Steps[T]) -> T:
        return wire.run(steps, self._send)

    def _send(self, call: Call) -> httpx.Response:
        return self._http.request(call.method, call.path, **call.options(self._timeout))
