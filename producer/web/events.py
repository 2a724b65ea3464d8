"""GET /v1/events: server-sent events of finished predictions, and once a second of the queue's state.

The last ended records are kept in one ring per process, and a listener is a position in it. So a slow listener costs no
memory: what it could not follow it is told as `reset`, upon which its client reads the history.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import re
import time
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice
from typing import NamedTuple

from producer.middleware.request import Request
from producer.middleware.responses import Response
from producer.serving.waiting import Waiting
from producer.web.load import Gauge
from producer.web.routes import Routes
from shared.errors import DigitqError
from shared.prediction import Prediction
from shared.store import Store

bp = Routes("events", __name__, url_prefix="/v1")

#: Ended records that are kept, for listeners that are behind or reconnect.
RING = 2048
#: Most bytes of results kept with them: a page of a thousand digits has 35 kB, a single digit 0.3.
RING_BYTES = 16 * 1024 * 1024
#: Most predictions in one piece, and the pause between two: nobody reads more, and the CPU is for pictures.
MAX_AT_ONCE = 256
PAUSE_SECONDS = 0.05
#: A comment is sent after so long without anything else.
HEARTBEAT_SECONDS = 15
#: Seconds between two readings of the queue's state.
STATUS_SECONDS = 1
#: A client that took longer than this to read a piece is disconnected.
SLOW_SECONDS = 30
#: A stream ends after so long; browsers reconnect by themselves, and a client that has silently gone frees its place.
MAX_STREAM_SECONDS = 600
#: What a client waits before it reconnects, in ms.
RETRY_MS = 2000
#: Predictions of the history that are read for a listener that was away too long for the ring.
LOOK_BACK = 100
#: An event's id: when the prediction ended, and its id.
TOKEN = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z/[\w-]+")
#: Tells a client that it has missed something.
RESET = "event: reset\ndata: {}\n\n"


class TooManyListeners(DigitqError):
    """As many clients listen as may."""

    code, status, title = "too_many_listeners", 503, "Too many listen to the events"


class Ended:
    """One ended record in the ring; its event is serialized when the first listener reads it."""

    __slots__ = ("_event", "_record", "_root", "owner", "size")

    def __init__(self, record: dict[str, str], root: str) -> None:
        self._record, self._event, self._root = record, "", root
        self.owner = record.get("digitq_owner") or ""
        self.size = len(record.get("digitq_found") or "")

    @property
    def token(self) -> str:
        """The event's id: when the prediction ended by Redis's clock, and its id; the same from every process."""
        return f"{self._record['ended_at']}/{self._record['id']}"

    def event(self) -> str:
        """The event as it is sent."""
        if not self._event:
            prediction = Prediction.from_record(self._record["id"], self._record)
            self._event = as_event(prediction, self.token, self._root)
        return self._event


class Position(NamedTuple):
    """The position of a listener: how many ended records, resets and statuses it has been told."""

    ended: int
    resets: int
    statuses: int


class Events:
    """The ring, the number of listeners, and the task that reads the status while there are any. On one event loop."""

    def __init__(self, store: Store, waiting: Waiting) -> None:
        self._store, self._waiting = store, waiting
        self._limit = max(1, store.settings.web_threads // 4)
        self._root = store.settings.root_path
        self._ring: deque[Ended] = deque()
        self._bytes = 0
        self._now = Position(0, 0, 0)
        self._status = ""
        self._listeners = 0
        self._changed = asyncio.Event()
        self._stopped = self._following = False
        self._gauge: Gauge | None = None

    def ended(self, records: list[dict[str, str]]) -> None:
        """Keeps ended records, and wakes the listeners."""
        for record in records:
            self._ring.append(Ended(record, self._root))
            self._bytes += self._ring[-1].size
        while len(self._ring) > RING or self._bytes > RING_BYTES:
            self._bytes -= self._ring.popleft().size
        if self._gauge:
            self._gauge.count(records)
        self._move(ended=self._now.ended + len(records))

    def missed(self) -> None:
        """Empties the ring, which has a gap: listeners are told to read the history."""
        self._ring.clear()
        self._bytes = 0
        self._move(resets=self._now.resets + 1)

    def _move(self, **changes: int) -> None:
        self._now = self._now._replace(**changes)
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def stop(self) -> None:
        """Ends all streams: the process is about to stop."""
        self._stopped = True
        self._wake()

    # ------------------------------------------------------------------ the status

    async def _read_status(self, gauge: Gauge) -> None:
        """Reads the status each second, until nobody listens."""
        while not self._stopped and self._listeners:
            status = await asyncio.to_thread(gauge.read)
            self._status = f"event: status\ndata: {json.dumps(status)}\n\n"
            self._move(statuses=self._now.statuses + 1)
            await asyncio.sleep(STATUS_SECONDS)
        self._gauge, self._status = None, ""

    # ------------------------------------------------------------------ the listeners

    def join(self) -> None:
        """Counts a listener. Raises TooManyListeners."""
        if self._stopped or self._listeners >= self._limit:
            raise TooManyListeners(f"At most {self._limit} may listen", limit=self._limit, retry_after_seconds=5)
        self._listeners += 1
        if not self._following:
            self._following = True
            self._waiting.follow(self)
        if self._gauge is None:
            self._gauge = Gauge(self._store)
            # Not in the context of the request that happens to be the first.
            loop, context = asyncio.get_running_loop(), contextvars.Context()
            self._task = loop.create_task(self._read_status(self._gauge), context=context)

    def leave(self) -> None:
        """Counts a listener less."""
        self._listeners -= 1

    async def stream(self, after: str, owner: str) -> AsyncGenerator[bytes, None]:
        """Yields the events that are the owner's, beginning after the event that the client saw last."""
        at = self._now._replace(statuses=self._now.statuses - bool(self._status))
        began = sent = time.monotonic()
        yield f"retry: {RETRY_MS}\n: digitq\n\n{await self._since(after, owner)}".encode()
        while not self._stopped and (now := time.monotonic()) - began < MAX_STREAM_SECONDS:
            if now - sent > SLOW_SECONDS:
                return
            if at == self._now:
                await self._next_change()
            news, at = self._news(owner, at), self._now
            sent = time.monotonic()
            yield news.encode() or b": still here\n\n"
            await asyncio.sleep(PAUSE_SECONDS)

    async def _next_change(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), HEARTBEAT_SECONDS)

    def _news(self, owner: str, at: Position) -> str:
        """The events since a position; more than one listener can follow is one `reset`."""
        kept, gap = len(self._ring), self._now.resets != at.resets
        new = self._now.ended - at.ended
        new = min(new, kept) if gap else new  # after a gap the ring began anew: what it has since is told
        lost = new > min(kept, MAX_AT_ONCE)
        ended = [] if lost else islice(self._ring, kept - new, None)
        own = (one.event() for one in ended if one.owner == owner)
        status = self._status if self._now.statuses != at.statuses else ""
        return "".join([RESET if gap or lost else "", *own, status])

    async def _since(self, token: str, owner: str) -> str:
        """The events that a client missed since the one that it saw last."""
        if not token:
            return ""
        kept = list(self._ring)
        for i, ended in enumerate(kept):
            if ended.token == token:
                own = [one for one in kept[i + 1 :] if one.owner == owner]
                return "".join(one.event() for one in own) if len(own) <= MAX_AT_ONCE else RESET
        return await asyncio.to_thread(self._from_history, owner, token) if TOKEN.fullmatch(token) else RESET

    def _from_history(self, owner: str, token: str) -> str:
        """The same from the owner's last predictions: enough if they reach back to the event that was seen last."""
        try:
            page, more = self._store.recent(LOOK_BACK, owner=owner)
        except DigitqError:
            return RESET
        at, id = token.split("/")
        last = datetime.fromisoformat(at).timestamp()
        ended = sorted(((one.finished_at, one.id, one) for one in page if one.finished_at), key=lambda row: row[:2])
        if more and (not ended or ended[0][0] > last):
            return RESET
        new = (one for finished_at, other, one in ended if finished_at >= last and other != id)
        return "".join(as_event(one, token_of(one), self._root) for one in new)


def token_of(prediction: Prediction) -> str:
    """The event's id of a prediction that was read from Redis."""
    finished = datetime.fromtimestamp(prediction.finished_at or 0, UTC)
    return f"{finished.strftime('%Y-%m-%dT%H:%M:%S.%fZ')}/{prediction.id}"


def as_event(prediction: Prediction, token: str, root: str) -> str:
    """A finished prediction as one event; its links start with `root`."""
    return f"id: {token}\nevent: prediction\ndata: {json.dumps(prediction.to_json(root))}\n\n"


@bp.get("/events")
async def events(request: Request) -> Response:
    """The stream of events; with `Last-Event-ID` from after that event."""
    heard = request.services.events
    headers = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache, no-transform",
               "X-Accel-Buffering": "no"}  # fmt: skip
    if request.method == "HEAD":
        return Response(headers=headers)
    heard.join()
    stream = heard.stream(request.headers.get("Last-Event-ID", ""), request.owner)
    return Response(stream, headers=headers, on_close=heard.leave)
