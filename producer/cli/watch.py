"""`digitq watch`: the event stream as a live screen, as a line each second, or as JSON lines."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import click
import httpx

from producer.cli.printing import line
from producer.client.foreign import unexpected
from producer.client.retry import Retry
from producer.client.wire import error_of, unreachable
from shared.errors import DigitqError
from shared.prediction import Prediction
from shared.settings import without_password

#: Predictions that are shown.
LAST = 10
#: A stream that says nothing for so many seconds is broken: there is a status each second.
SILENT_SECONDS = 20.0
#: For the pauses before it comes back; it never gives up, once it has been there.
BACK = Retry(attempts=1_000_000_000, first=0.2, longest=5, seconds=float("inf"))
HOME, CLEAR_LINE, CLEAR_REST, HIDE, SHOW = "\x1b[H", "\x1b[K", "\x1b[J", "\x1b[?25l", "\x1b[?25h"


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event."""

    kind: str
    data: dict[str, Any]
    id: str = ""


def parsed(lines: Iterable[str]) -> Iterator[Event]:
    """The events in a stream; comments, `retry` and what is not complete are left out."""
    fields: dict[str, str] = {}
    for text in lines:
        if text:
            name, _, value = text.partition(":")
            fields[name] = fields[name] + "\n" + value[1:] if name == "data" and name in fields else value.lstrip(" ")
        else:
            if "data" in fields:
                yield Event(fields.get("event", "message"), json.loads(fields["data"]), fields.get("id", ""))
            fields = {}


class Watch:
    """Follows the events of one server, and comes back when the connection is lost."""

    def __init__(self, url: str, as_json: bool, headers: Mapping[str, str] | None = None) -> None:
        self._url, self._json, self._headers = url, as_json, headers or {}
        self._screen = sys.stdout.isatty() and not as_json
        self._last: deque[Prediction] = deque(maxlen=LAST)
        self._status: dict[str, Any] = {}
        self._seen = ""
        #: The server has been there.
        self._met = False

    def run(self, seconds: float | None = None) -> None:
        """Until `seconds` are over, or for ever. Raises what the first connection raises."""
        end = time.monotonic() + seconds if seconds is not None else float("inf")
        tried = 0
        if self._screen:
            click.echo(HIDE + HOME + CLEAR_REST, nl=False)
        try:
            while time.monotonic() < end:
                try:
                    for event in self._events():
                        tried = 0
                        self._take(event)
                        if time.monotonic() >= end:
                            return
                    error: DigitqError = DigitqError("The stream has ended")  # as it does every ten minutes
                except httpx.RequestError as trouble:
                    error = unreachable(trouble)
                except DigitqError as refusal:
                    error = refusal
                if not self._met:
                    raise error
                tried += 1
                self._lost(error)
                time.sleep(min(BACK.pause(tried, _passing(error), 0) or 0, max(0.0, end - time.monotonic())))
        finally:
            if self._screen:
                click.echo(SHOW)

    def _events(self) -> Iterator[Event]:
        headers = {**self._headers, **({"Last-Event-ID": self._seen} if self._seen else {})}
        timeout = httpx.Timeout(10, read=SILENT_SECONDS)
        with httpx.stream("GET", f"{self._url}/v1/events", headers=headers, timeout=timeout) as stream:
            if not stream.is_success:
                stream.read()
                raise error_of(stream)
            if not stream.headers.get("Content-Type", "").startswith("text/event-stream"):
                raise unexpected(stream)
            self._met = True
            self._look_back()
            yield from parsed(stream.iter_lines())

    def _look_back(self) -> None:
        """What ended before we listened, for the screen."""
        if self._screen:
            answer = httpx.get(f"{self._url}/v1/predictions", params={"limit": LAST}, headers=self._headers, timeout=10)
            page = answer.json().get("predictions", []) if answer.is_success else []
            ended = [one for one in map(Prediction.from_json, page) if one.finished_at]
            self._last.clear()
            self._last.extend(sorted(ended, key=lambda one: one.finished_at or 0))

    def _take(self, event: Event) -> None:
        self._seen = event.id or self._seen
        if event.kind == "reset":
            self._look_back()
        elif event.kind == "prediction":
            ended = Prediction.from_json(event.data)
            if all(ended.id != one.id for one in self._last):  # after a `reset` it may have been seen already
                self._last.append(ended)
        elif event.kind == "status":
            self._status = event.data
        if self._json:
            click.echo(json.dumps({"event": event.kind, **event.data}))
        elif event.kind == "status":
            self._draw() if self._screen else click.echo(one_line(event.data, time.time()))

    def _lost(self, error: DigitqError) -> None:
        if self._screen:
            self._draw(f"connecting again: {error}")
        else:
            click.echo(f"digitq: connecting again: {error}", err=True)

    def _draw(self, trouble: str = "") -> None:
        width, height = shutil.get_terminal_size()
        lines = screen(self._url, self._status, self._last, time.time(), trouble)[: height - 1]
        click.echo(HOME + "".join(f"{text[: width - 1]}{CLEAR_LINE}\n" for text in lines) + CLEAR_REST, nl=False)


def _passing(error: DigitqError) -> DigitqError:
    """The same, as one that passes: whatever the server answers now, it has answered before."""
    error.status = 503
    return error


def clock(seconds: float) -> str:
    """The time of day, here."""
    return datetime.fromtimestamp(seconds).astimezone().strftime("%H:%M:%S")


def one_line(status: dict[str, Any], now: float) -> str:
    """A status as `12:00:00 queued=3 running=1 …`, for a log or for cut and awk."""
    if not status.get("redis"):
        return f"{clock(now)} redis=down"
    workers = status["workers"]
    plain = {"queued": status["queued"], "running": status["running"], "alive": workers["alive"],
             "busy": workers["busy"], "needed": workers.get("needed"), "arrivals": status.get("arrivals_per_second"),
             "per_second": status["per_second"], "eta_ms": status.get("eta_ms"), "p50_ms": status["p50_ms"],
             "p95_ms": status["p95_ms"]}  # fmt: skip
    return " ".join([clock(now), *(f"{name}={'-' if value is None else value}" for name, value in plain.items())])


def load_lines(status: dict[str, Any]) -> list[str]:
    """How busy queue and workers are. Of an older server some things are not known."""
    get, workers = status.get, status["workers"]
    goal = f"{_known(workers.get('needed'))} needed to answer in {_seconds(get('latency_goal_ms'))}"
    rates = f"{_known(get('arrivals_per_second'))} arrive/s   {_known(get('capacity_per_second'))} possible/s"
    times = f"oldest {_seconds(get('oldest_ms'))}   done in {_seconds(get('eta_ms'))}"
    return [
        f"queue     {status['queued']:>8} waiting   {status['running']:>6} running   {times}",
        f"workers   {workers['alive']:>8} alive     {workers['busy']:>6} busy      {goal}",
        f"speed     {status['per_second']:>8} pictures/s   {rates}",
    ]


def _known(value: float | None, unit: str = "") -> str:
    return "-" if value is None else f"{value:g} {unit}".rstrip()


def _seconds(ms: float | None) -> str:
    """A duration for people: `0.4 s`, `12 s`, `4 min`."""
    if ms is None:
        return "-"
    seconds = ms / 1000
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def screen(
    url: str, status: dict[str, Any], last: Iterable[Prediction], now: float, trouble: str = ""
) -> list[str]:  # fmt: skip
    """The screen's lines."""
    lines = [f"digitq {without_password(url)}  {clock(now)}  {trouble or 'Ctrl-C ends'}", ""]
    if status.get("redis"):
        p50, p95 = (_known(status[name], "ms") for name in ("p50_ms", "p95_ms"))
        lines += [*load_lines(status), f"times     p50 {p50}   p95 {p95}"]
    else:
        lines.append(status.get("reason") or "Redis does not answer" if status else "Nothing heard yet")
    return [*lines, "", *(f"{clock(p.finished_at or now)}  {line(p, p.filename or p.id)}" for p in reversed([*last]))]
