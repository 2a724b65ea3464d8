"""`digitq watch`: follows the event stream as a live screen, as a line each second, or as JSON lines."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import click
import httpx2

from producer.cli.screen import screen, status_line
from producer.client.http_errors import error_of, unexpected, unreachable
from producer.client.retry import Retry
from shared.errors import DigitqError
from shared.prediction import Prediction

#: Predictions on the screen.
LAST = 10
#: Seconds of silence after which the stream counts as broken: the server sends a status each second.
SILENT_SECONDS = 20.0
#: Pauses before it connects again. It never gives up once it was connected.
RECONNECT = Retry(attempts=1_000_000_000, first=0.2, longest=5, seconds=float("inf"))
HOME, CLEAR_LINE, CLEAR_REST, HIDE, SHOW = "\x1b[H", "\x1b[K", "\x1b[J", "\x1b[?25l", "\x1b[?25h"


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event."""

    kind: str
    data: dict[str, Any]
    id: str = ""


def parse_events(lines: Iterable[str]) -> Iterator[Event]:
    """Yield the complete events of a stream, without comments and `retry` fields."""
    fields: dict[str, str] = {}
    for text in lines:
        if text:
            name, _, value = text.partition(":")
            value = value.removeprefix(" ")
            fields[name] = f"{fields[name]}\n{value}" if name == "data" and name in fields else value
        else:
            if "data" in fields:
                yield Event(fields.get("event", "message"), json.loads(fields["data"]), fields.get("id", ""))
            fields = {}


class Watch:
    """Prints the events of one server, and connects again when the connection is lost."""

    def __init__(self, url: str, as_json: bool, headers: Mapping[str, str] | None = None) -> None:
        self._url, self._json, self._headers = url, as_json, headers or {}
        self._screen = sys.stdout.isatty() and not as_json
        self._last: deque[Prediction] = deque(maxlen=LAST)
        self._status: dict[str, Any] = {}
        self._last_id = ""
        self._connected_before = False

    def run(self, seconds: float | None = None) -> None:
        """Print events for `seconds`, or without end. Raises DigitqError if the first connection fails."""
        end = time.monotonic() + seconds if seconds is not None else float("inf")
        if self._screen:
            click.echo(HIDE + HOME + CLEAR_REST, nl=False)
        try:
            failures = 0
            while time.monotonic() < end:
                received, error = self._print_events(end)
                failures = 1 if received else failures + 1
                if time.monotonic() < end:
                    self._pause(failures, error, end)
        finally:
            if self._screen:
                click.echo(SHOW)

    def _print_events(self, end: float) -> tuple[bool, DigitqError]:
        """Print one connection's events until it ends; return whether there were any, and why it ended."""
        received, error = False, DigitqError("The stream has ended")  # as it does every ten minutes
        try:
            for event in self._events():
                received = True
                self._print(event)
                if time.monotonic() >= end:
                    break
        except httpx2.RequestError as cause:
            error = unreachable(cause)
        except DigitqError as refusal:
            error = refusal
        if not self._connected_before:
            raise error
        return received, error

    def _pause(self, failures: int, error: DigitqError, end: float) -> None:
        if self._screen:
            self._draw(f"connecting again: {error}")
        else:
            click.echo(f"digitq: connecting again: {error}", err=True)
        error.status = 503  # any error is temporary here: the server has answered before
        time.sleep(min(RECONNECT.pause(failures, error, 0) or 0, max(0.0, end - time.monotonic())))

    def _events(self) -> Iterator[Event]:
        headers = {**self._headers, **({"Last-Event-ID": self._last_id} if self._last_id else {})}
        timeout = httpx2.Timeout(10, read=SILENT_SECONDS)
        with httpx2.stream("GET", f"{self._url}/v1/events", headers=headers, timeout=timeout) as stream:
            if not stream.is_success:
                stream.read()
                raise error_of(stream)
            if not stream.headers.get("Content-Type", "").startswith("text/event-stream"):
                raise unexpected(stream)
            self._connected_before = True
            self._load_history()
            yield from parse_events(stream.iter_lines())

    def _load_history(self) -> None:
        """Load the predictions that ended before this connection, for the screen."""
        if self._screen:
            params = {"limit": LAST}
            answer = httpx2.get(f"{self._url}/v1/predictions", params=params, headers=self._headers, timeout=10)
            page = answer.json().get("predictions", []) if answer.is_success else []
            ended = [one for body in page for one in _known(body) if one.finished_at]
            self._last.clear()
            self._last.extend(sorted(ended, key=lambda one: one.finished_at or 0))

    def _print(self, event: Event) -> None:
        self._last_id = event.id or self._last_id
        if event.kind == "reset":
            self._load_history()
        elif event.kind == "prediction":
            # The history that a `reset` loads may have it already.
            self._last.extend(new for new in _known(event.data) if all(new.id != one.id for one in self._last))
        elif event.kind == "status":
            self._status = event.data
        if self._json:
            click.echo(json.dumps({"event": event.kind, **event.data}))
        elif event.kind == "status":
            self._draw() if self._screen else click.echo(status_line(event.data, time.time()))

    def _draw(self, trouble: str = "") -> None:
        width, height = shutil.get_terminal_size()
        lines = screen(self._url, self._status, self._last, time.time(), trouble)[: height - 1]
        click.echo(HOME + "".join(f"{text[: width - 1]}{CLEAR_LINE}\n" for text in lines) + CLEAR_REST, nl=False)


def _known(body: dict[str, Any]) -> list[Prediction]:
    """Return the prediction; none if it has a state that only a newer digitq knows."""
    with suppress(ValueError):
        return [Prediction.from_json(body)]
    return []
