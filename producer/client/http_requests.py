"""The requests that the HTTP clients send: addresses, headers, bodies, and which may be repeated."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

import httpx2

from producer.client.http_errors import Json
from producer.uploads.received import BLOCK, Received
from shared.addresses import without_password
from shared.errors import DigitqError, SettingsError
from shared.keys import Priority
from shared.numbers import Read
from shared.settings import Settings

#: Seconds that an answer about a whole batch may take beyond the client's timeout.
BATCH_SECONDS = 50.0
BINARY = "application/octet-stream"
#: Errors after which the request cannot have reached the server.
_UNSENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request. After a failure it is sent again if it is repeatable, or certainly was not received."""

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    #: The body, or a function that starts it anew for each attempt.
    content: bytes | Callable[[], Iterator[bytes]] | None = None
    files: list[tuple[str, tuple[str, bytes, str]]] | None = None
    #: Seconds that the answer may take beyond the client's timeout.
    extra_seconds: float = 0
    repeatable: bool = True

    def options(self, timeout: float) -> Json:
        """Return the keyword arguments for httpx2's `request`."""
        body = self.content() if callable(self.content) else self.content
        return {"params": self.params, "headers": self.headers, "content": body, "files": self.files,
                "timeout": httpx2.Timeout(timeout, read=timeout + self.extra_seconds)}  # fmt: skip

    def may_repeat(self, error: DigitqError) -> bool:
        """Tells whether a further attempt is safe, and not certain to fail like this one."""
        if isinstance(error.__cause__, httpx2.LocalProtocolError):  # httpx2 itself refuses to send the request
            return False
        return self.repeatable or error.status == 429 or isinstance(error.__cause__, _UNSENT)


def picture_request(image: bytes, filename: str, priority: Priority, key: str, read: Read = "digit") -> Request:
    """Return the request that submits one picture under an idempotency key."""
    params = {"filename": filename, "priority": str(priority), **_read(read)}
    return Request("POST", "/v1/predictions", params, {"Content-Type": BINARY, **_idempotency(key)}, image)


def batch_request(body: Received, priority: Priority, key: str, read: Read = "digit") -> Request:
    """Return the request that submits a batch under an idempotency key. A single body is read anew each attempt."""
    params, headers = {"priority": str(priority), **_read(read)}, _idempotency(key)
    params |= {"filename": body.filename} if body.filename else {}
    if body.names:
        files = [("file", (name, data, BINARY)) for name, data in body.parts()]
        return Request("POST", "/v1/batches", params, headers, files=files, extra_seconds=BATCH_SECONDS)
    headers |= {"Content-Type": BINARY, "Content-Length": str(body.size())}
    return Request("POST", "/v1/batches", params, headers, partial(_blocks, body), extra_seconds=BATCH_SECONDS)


def _blocks(body: Received) -> Iterator[bytes]:
    body.file.seek(0)
    return iter(partial(body.file.read, BLOCK), b"")


def _read(read: Read) -> dict[str, str]:
    """Return the parameter that says how pictures are read; none for the default, which older servers know."""
    return {} if read == "digit" else {"read": read}


def _idempotency(key: str) -> dict[str, str]:
    return {"Idempotency-Key": f'"{key}"'}


def authorization(api_key: str | None) -> dict[str, str]:
    """Return the header that carries an API key."""
    return {"Authorization": f"Bearer {api_key}"} if api_key else {}


def server_and_key(url: str | None, api_key: str | None) -> tuple[str, str | None]:
    """Return the server's URL and the API key; without a URL both come from the settings. Raises SettingsError."""
    if url is None:
        settings = Settings.from_env()
        return settings.client_url(), api_key or settings.api_key or None
    if not url.startswith(("http://", "https://")):
        shown = without_password(url)
        raise SettingsError(f"The URL of the server is {shown!r}, expected http://HOST:PORT or https://HOST")
    return url.rstrip("/"), api_key
