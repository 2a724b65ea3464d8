"""The HTTP API as a client speaks it, without any I/O: `Client` and `AsyncClient` run the same steps.

A conversation is a generator. It yields a `Call` to be sent, and is given the response or has httpx's error thrown in;
or it yields a number of seconds to pause.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Awaitable, Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import httpx

from producer.client.foreign import error_without_code, expect_object, json_object, unexpected
from producer.client.retry import Retry
from producer.uploads.received import BLOCK, Received
from shared import errors
from shared.errors import DigitqError, Incomplete, ServerUnavailable, SettingsError
from shared.keys import Priority
from shared.settings import Settings, without_password

T = TypeVar("T")
Steps = Generator["Call | float", Any, T]
Json = dict[str, Any]

#: The longest that one request asks the server to wait, in seconds; longer waits are several requests.
POLL_SECONDS = 10.0
#: Between two requests of one wait.
POLL_PAUSE_SECONDS = 0.25
#: What the server may take for a whole batch, in seconds, beyond what it may take for anything else.
BATCH_SECONDS = 50.0
BINARY = "application/octet-stream"
PENDING = ("queued", "running")

_BY_CODE = {
    cls.code: cls
    for cls in vars(errors).values()
    if isinstance(cls, type) and issubclass(cls, DigitqError) and cls is not DigitqError
}
#: The request has not left this machine.
_UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
#: What httpx and anyio say where nobody listens.
_REFUSED = ("Connection refused", "All connection attempts failed")
#: Our own mistake: it would be the same the next time.
_HOPELESS = (httpx.LocalProtocolError,)


@dataclass(frozen=True, slots=True)
class Call:
    """One request. Sent again after a failure if it is `repeatable`, else only if it certainly was not received."""

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    #: The body, or how to begin with it (once for each try).
    content: bytes | Callable[[], Iterator[bytes]] | None = None
    files: list[tuple[str, tuple[str, bytes, str]]] | None = None
    #: Seconds that the answer may take beyond the client's own timeout.
    slow: float = 0
    repeatable: bool = True

    def options(self, timeout: float) -> Json:
        """The keyword arguments of httpx's `request`."""
        body = self.content() if callable(self.content) else self.content
        return {"params": self.params, "headers": self.headers, "content": body, "files": self.files,
                "timeout": httpx.Timeout(timeout, read=timeout + self.slow)}  # fmt: skip


# ---------------------------------------------------------------------- conversations


def submit(image: bytes, filename: str, priority: Priority | str, key: str, retry: Retry) -> Steps[Json]:
    """Hands in one picture; the JSON object of its prediction."""
    params = {"filename": filename, "priority": str(Priority(priority))}
    call = Call("POST", "/v1/predictions", params, {"Content-Type": BINARY, **idempotency(key)}, image)
    return expect_object((yield from answered(call, retry)), "id", "state")


def submit_batch(body: Received, priority: Priority | str, key: str, retry: Retry) -> Steps[Json]:
    """Hands in a batch; its JSON object."""
    params, headers = {"priority": str(Priority(priority))}, idempotency(key)
    if body.names:
        files = [("file", (name, data, BINARY)) for name, data in body.parts()]
        call = Call("POST", "/v1/batches", params, headers, files=files, slow=BATCH_SECONDS)
    else:
        headers |= {"Content-Type": BINARY, "Content-Length": str(body.size())}
        call = Call("POST", "/v1/batches", params, headers, partial(blocks, body), slow=BATCH_SECONDS)
    return expect_object((yield from answered(call, retry)), "id", "state")


def read(path: str, wait: float, retry: Retry) -> Steps[Json]:
    """What is under the path, as it stands or as it has ended within `wait` seconds."""
    end = time.monotonic() + wait
    while True:
        seconds = max(0.0, min(POLL_SECONDS, end - time.monotonic()))
        answer = yield from answered(Call("GET", path, {"wait": f"{seconds:.3f}"}, slow=seconds), retry)
        found = expect_object(answer, "id", "state")
        if found["state"] not in PENDING or time.monotonic() >= end:
            return found
        # A server whose waiting room is full answers at once; then we poll, and not faster than it can bear.
        yield max(0.0, min(POLL_PAUSE_SECONDS, end - time.monotonic()))


def status(retry: Retry) -> Steps[Json]:
    """How busy queue and workers are."""
    answer = yield from answered(Call("GET", "/v1/status"), retry)
    return expect_object(answer, "queued")


def results(id: str, retry: Retry) -> Steps[Iterator[Json]]:
    """The results of a batch, all of them. Raises Incomplete, and RedisUnavailable where the answer breaks off."""
    answer = yield from answered(Call("GET", f"/v1/batches/{id}/results", slow=BATCH_SECONDS), retry)
    lines, total = answer.text.splitlines(), answer.headers.get("X-Total-Count")  # an older server does not say
    if total is not None and len(lines) != int(total):
        raise Incomplete(f"{len(lines)} of {total} results have arrived")
    if total is None and not all(line.startswith("{") for line in lines):
        raise unexpected(answer)
    return map(json.loads, lines)


def delete(path: str, retry: Retry) -> Steps[None]:
    """Takes back or forgets. The second of two would forget what the first has taken back: not repeatable."""
    answer = yield from answered(Call("DELETE", path, repeatable=False), retry)
    if answer.status_code != 204:
        raise unexpected(answer)


def answered(call: Call, retry: Retry) -> Steps[httpx.Response]:
    """The answer, if it is a good one; raises the error whose code the server answers, or ServerUnavailable."""
    began, tried = time.monotonic(), 0
    while True:
        tried += 1
        try:
            response: httpx.Response = yield call
            if response.is_success:
                return response
            error, again = error_of(response), call.repeatable or response.status_code == 429
        except httpx.RequestError as trouble:
            error, again = unreachable(trouble), call.repeatable or isinstance(trouble, _UNSENT)
            again = again and not isinstance(trouble, _HOPELESS)
        pause = retry.pause(tried, error, time.monotonic() - began) if again else None
        if pause is None:
            raise error
        yield pause


# ---------------------------------------------------------------------- parts of them


def idempotency(key: str) -> dict[str, str]:
    """The header that makes a submit safe to repeat, with a key of its own if none is given."""
    return {"Idempotency-Key": f'"{key or new_key()}"'}


def new_key() -> str:
    """An idempotency key that nobody else has."""
    return str(uuid.uuid4())


def blocks(body: Received) -> Iterator[bytes]:
    """A body from its beginning, piece by piece."""
    body.file.seek(0)
    return iter(partial(body.file.read, BLOCK), b"")


def unreachable(trouble: httpx.RequestError) -> ServerUnavailable:
    """Returns the error for a server that does not answer, with httpx's error as its cause."""
    url = trouble.request.url
    refused = isinstance(trouble, httpx.ConnectError) and any(text in str(trouble) for text in _REFUSED)
    reason = ". Is it running? (`make up`)" if refused else f": {str(trouble) or type(trouble).__name__}"
    error = ServerUnavailable(f"digitq does not answer at {url.scheme}://{url.netloc.decode()}{reason}")
    error.__cause__ = trouble
    return error


def target(url: str | None, api_key: str | None) -> tuple[str, str | None]:
    """Returns the server's URL and the API key; without a URL both come from the settings. Raises SettingsError."""
    if url is None:
        settings = Settings.from_env()
        return settings.client_url(), api_key or settings.api_key or None
    if not url.startswith(("http://", "https://")):
        raise SettingsError(
            f"The URL of the server is {without_password(url)!r}, expected http://HOST:PORT or https://HOST"
        )
    return url.rstrip("/"), api_key


def error_of(response: httpx.Response) -> DigitqError:
    """The error that a problem document stands for; one with a code that we do not know carries it all the same."""
    problem = json_object(response)
    code, detail = problem.get("code"), problem.get("detail")
    if isinstance(code, str) and code:
        error = _BY_CODE.get(code, DigitqError)(str(detail or f"HTTP {response.status_code}"))
        if type(error) is DigitqError:
            error.code, error.status, error.title = code, response.status_code, problem.get("title") or error.title
    else:
        error = error_without_code(response)
    standard = ("type", "title", "status", "detail", "code", "retry_after_seconds")
    error.extensions |= {name: value for name, value in problem.items() if name not in standard}
    after = response.headers.get("Retry-After", "")
    if after.isdecimal():
        error.extensions["retry_after_seconds"] = int(after)
    return error


# ---------------------------------------------------------------------- who has them


def run(steps: Steps[T], send: Callable[[Call], httpx.Response]) -> T:
    """Has a conversation."""
    try:
        step = next(steps)
        while True:
            if isinstance(step, Call):
                try:
                    answer = send(step)
                except httpx.RequestError as error:
                    step = steps.throw(error)
                    continue
                step = steps.send(answer)
            else:
                time.sleep(step)
                step = next(steps)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


async def run_async(
    steps: Steps[T], send: Callable[[Call], Awaitable[httpx.Response]], sleep: Callable[[float], Awaitable[None]]
) -> T:
    """The same for asyncio."""
    try:
        step = next(steps)
        while True:
            if isinstance(step, Call):
                try:
                    answer = await send(step)
                except httpx.RequestError as error:
                    step = steps.throw(error)
                    continue
                step = steps.send(answer)
            else:
                await sleep(step)
                step = next(steps)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
