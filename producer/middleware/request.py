"""The request that every step of the pipeline and every view takes, and its standard parameters."""

from __future__ import annotations

import logging
import re
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING

import flask
from werkzeug.exceptions import RequestEntityTooLarge

from shared.errors import BadRequest
from shared.ids import new_id

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from producer.serving.connection import Connection
    from producer.web.services import Services

#: Longest wait, in seconds, for `Prefer: wait` and `?wait=`.
MAX_WAIT_SECONDS = 30
_PREFER_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?([0-9]{1,18})\"?(?=$|[,;\s])", re.IGNORECASE)
_IDEMPOTENCY_KEY = re.compile(r'"?([\x20\x21\x23-\x7e]{1,255})"?')
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")

#: The request that the current task, or the thread that works for it, answers.
current: ContextVar[Request] = ContextVar("current")


class Request(flask.Request):
    """A werkzeug request, with the caller's identity and what the application answers it with."""

    #: Set by the server's adapter.
    services: Services
    connection: Connection
    #: Set by the pipeline: the owner of the API key (empty where no key is needed), the request id, the trace's span.
    owner = ""
    id = ""
    span: Span | None = None
    #: When the work on it began, by `time.perf_counter`: once its body has arrived.
    began = 0.0

    def begin(self) -> None:
        """Take the client's request id, or make one where it is missing or cannot be logged, and start the clock."""
        given = self.environ.get("HTTP_X_REQUEST_ID", "")
        self.id = given if given and _REQUEST_ID.fullmatch(given) else new_id()
        self.began = time.perf_counter()
        current.set(self)

    @property
    def route(self) -> str:
        """The rule of the URL map that matches, such as `/v1/predictions/<id>`; `none` for an unknown path."""
        return self.url_rule.rule if self.url_rule else "none"

    @property
    def on_page(self) -> bool:
        """True for the paths of the web page."""
        return self.url_rule is not None and self.url_rule.endpoint.startswith("pages.")

    @property
    def length(self) -> int | None:
        """Bytes of the body, if the request says so."""
        text = self.environ.get("CONTENT_LENGTH", "")
        return int(text) if text.isdigit() else None

    def body(self) -> bytes:
        """The whole body. Raises RequestEntityTooLarge."""
        limit = self.max_content_length or 0
        if (self.length or 0) > limit:  # it was not read
            raise RequestEntityTooLarge
        data: bytes = self.environ["wsgi.input"].read(limit + 1)
        if len(data) > limit:
            raise RequestEntityTooLarge
        return data

    @property
    def is_form(self) -> bool:
        """True if the body is a multipart form."""
        return str(self.environ.get("CONTENT_TYPE", "")).lower().startswith("multipart/form-data")

    def parameter(self, name: str, default: str = "") -> str:
        """A query parameter. Tests membership first: `MultiDict.get` raises and catches a KeyError if it is absent."""
        return self.args[name] if self.has(name) else default

    def has(self, name: str) -> bool:
        """True if the query has a parameter. Most uploads have no query, and are not parsed for it."""
        return bool(self.query_string) and name in self.args

    def takes(self, *names: str) -> None:
        """Refuse query parameters of other names: their sender expects something else. Raises BadRequest."""
        for name in self.args if self.query_string else ():
            if name not in names:
                remedy = "send the header `Prefer: wait=5`" if name == "wait" else f"there are {', '.join(names)}"
                raise BadRequest(f"There is no query parameter `{name[:50]}` here: {remedy}")

    def idempotency_key(self) -> str:
        """The Idempotency-Key, with or without its quotes; empty if there is none. Raises BadRequest."""
        given = self.environ.get("HTTP_IDEMPOTENCY_KEY", "").strip()
        if not given:
            return ""
        match = _IDEMPOTENCY_KEY.fullmatch(given)
        if not match:
            raise BadRequest("Idempotency-Key is a string of 1 to 255 printable characters")
        return match[1]

    def preferred_wait(self) -> float:
        """Seconds from `Prefer: wait=N`, capped; 0 if the client does not want to wait."""
        match = _PREFER_WAIT.search(self.environ.get("HTTP_PREFER", ""))
        return min(int(match[1]), MAX_WAIT_SECONDS) if match else 0

    def wait_parameter(self) -> float:
        """Seconds from `?wait=`, capped. Raises BadRequest."""
        try:
            seconds = float(self.parameter("wait") or 0)
        except ValueError as error:
            raise BadRequest("wait is a number of seconds") from error
        if not seconds >= 0:  # also false for NaN
            raise BadRequest("wait is a number of seconds")
        return min(seconds, MAX_WAIT_SECONDS)


def add_request_id(record: logging.LogRecord) -> bool:
    """A filter of the log: what is logged while a request is answered has its id."""
    request = current.get(None)
    if request is not None and not hasattr(record, "request_id"):
        record.request_id = request.id
    return True
