"""Submitting from Python over HTTP."""

from __future__ import annotations

import time
from typing import Any

import httpx

from shared import errors
from shared.errors import DigitqError
from shared.keys import Priority
from shared.prediction import Prediction

#: The longest that one request asks the server to wait, in seconds; longer waits are several requests.
POLL_SECONDS = 10.0
#: Between two requests of one wait.
POLL_PAUSE_SECONDS = 0.25

_BY_CODE = {
    cls.code: cls
    for cls in vars(errors).values()
    if isinstance(cls, type) and issubclass(cls, DigitqError) and cls is not DigitqError
}


class Client:
    """`Client("http://127.0.0.1:8000").submit(image).wait().digit`. One object serves any number of threads."""

    def __init__(self, url: str = "http://127.0.0.1:8000", api_key: str | None = None, *, timeout: float = 10) -> None:
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout)

    def submit(
        self,
        image: bytes,
        filename: str = "",
        *,
        priority: Priority | str = Priority.NORMAL,
        idempotency_key: str = "",
    ) -> Prediction:
        """Hands in one picture. Raises the error whose code the server answers, RedisUnavailable where it is away."""
        headers = {"Content-Type": "application/octet-stream"}
        if idempotency_key:
            headers["Idempotency-Key"] = f'"{idempotency_key}"'
        params = {"filename": filename, "priority": str(Priority(priority))}
        return self._prediction("POST", "/v1/predictions", content=image, headers=headers, params=params)

    def get(self, id: str, wait: float = 0) -> Prediction:
        """A prediction as it stands, or as it has ended within `wait` seconds. Raises NotFound, Expired, Lost."""
        end = time.monotonic() + wait
        while True:
            seconds = max(0.0, min(POLL_SECONDS, end - time.monotonic()))
            timeout = httpx.Timeout(10, read=seconds + 10)
            prediction = self._prediction("GET", f"/v1/predictions/{id}", params={"wait": seconds}, timeout=timeout)
            if prediction.state.terminal or time.monotonic() >= end:
                return prediction
            # A server whose waiting room is full answers at once; then we poll, and not faster than it can bear.
            time.sleep(max(0.0, min(POLL_PAUSE_SECONDS, end - time.monotonic())))

    def cancel(self, id: str) -> None:
        """Takes a waiting picture back, or forgets one that has ended. Raises StillRunning, NotFound."""
        self._call("DELETE", f"/v1/predictions/{id}")

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def _prediction(self, method: str, path: str, **options: Any) -> Prediction:
        return Prediction.from_json(self._call(method, path, **options).json(), self)

    def _call(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            response = self._http.request(method, path, **options)
        except httpx.TransportError as error:
            raise errors.RedisUnavailable(f"{self._http.base_url} does not answer: {error}") from error
        if response.is_success:
            return response
        problem = response.json() if "json" in response.headers.get("Content-Type", "") else {}
        known = _BY_CODE.get(problem.get("code", ""), DigitqError)
        raise known(problem.get("detail", f"HTTP {response.status_code}"))
