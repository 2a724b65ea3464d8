"""GET /v1/events: server-sent events of finished predictions, and once a second of the queue's state.

The last ended records are kept in one ring per process; a listener is no more than a place in it. So a slow one costs
no memory: what it could not follow it is told as `reset`, upon which a client looks for itself.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from typing import Any

from flask import Blueprint, Response, current_app, g, request

from producer.serving.ended import RESET, TOKEN, Ended, as_event, token_of
from producer.serving.waiting import Waiters
from producer.web.load import Gauge
from shared.errors import DigitqError
from shared.store import Store

bp = Blueprint("events", __name__, url_prefix="/v1")

#: Ended records that are kept, for listeners that are behind or come back.
RING = 2048
#: Most predictions that are sent at once, and the pause between: nobody reads more, and the CPU is for pictures.
MAX_AT_ONCE = 256
PAUSE_SECONDS = 0.05
#: A comment is sent after so long without anything else.
HEARTBEAT_SECONDS = 15
#: A client that took longer than this to read what it was sent is let go.
SLOW_SECONDS = 30
#: A stream ends after so long; the browser comes back by itself, and who has silently gone gives its seat back.
MAX_STREAM_SECONDS = 600
#: What a client waits before it comes back, in ms.
RETRY_MS = 2000
#: History that is looked through for who was away too long for the ring.
LOOK_BACK = 100


class TooManyListeners(DigitqError):
    """Every seat for a listener is taken."""

    code, status, title = "too_many_listeners", 503, "Too many listen to the events"


class Events:
    """The ring, the listeners, and the thread that writes the status while there are any."""

    def __init__(self, store: Store, waiters: Waiters) -> None:
        self._store, self._waiters = store, waiters
        self._most = max(1, store.settings.web_threads // 4)
        self._root = store.settings.root_path
        self._ring: deque[Ended] = deque(maxlen=RING)
        self._total = 0
        self._resets = 0
        self._status = ""
        self._statuses = 0
        self._listeners = 0
        self._changed = threading.Condition()
        self._closed = self._following = False
        self._thread: threading.Thread | None = None
        self._gauge: Gauge | None = None

    # ------------------------------------------------------------------ what the listening thread tells

    def heard(self, ended: list[dict[str, str]]) -> None:
        """Keeps what has ended, and wakes those who listen."""
        with self._changed:
            self._ring.extend(Ended(record, self._root) for record in ended)
            self._total += len(ended)
            if self._gauge:
                self._gauge.count(ended)
            if self._listeners:
                self._changed.notify_all()

    def missed(self) -> None:
        """The ring has a gap: who was before it has to look for itself."""
        with self._changed:
            self._ring.clear()
            self._resets += 1
            self._changed.notify_all()

    # ------------------------------------------------------------------ the status

    def _tick(self) -> None:
        """Writes the status each second, until a second has passed with nobody listening."""
        while not self._closed:
            status = f"event: status\ndata: {json.dumps(self._gauge.read() if self._gauge else {})}\n\n"
            with self._changed:
                self._status, self._statuses = status, self._statuses + 1
                self._changed.notify_all()
                if not self._listeners:
                    self._thread, self._gauge, self._status = None, None, ""
                    return
            time.sleep(1)

    # ------------------------------------------------------------------ the listeners

    def listen(self, after: str, owner: str = "") -> Iterator[bytes]:
        """A listener's stream of what is the owner's, after the event that it saw last. Raises TooManyListeners."""
        with self._changed:
            if self._closed or not self._waiters.seat(self._most, self._listeners):
                raise TooManyListeners(f"At most {self._most} may listen", limit=self._most, retry_after_seconds=5)
            self._listeners += 1
            if not self._following:
                self._following = True
                self._waiters.follow(self)
            if self._thread is None:
                self._gauge = Gauge(self._store)
                self._thread = threading.Thread(target=self._tick, name="status", daemon=True)
                self._thread.start()
        return self._stream(after, owner)

    def leave(self) -> None:
        """Gives the seat back."""
        with self._changed:
            self._listeners -= 1
        self._waiters.leave()

    def _stream(self, after: str, owner: str) -> Iterator[bytes]:
        with self._changed:
            at = (self._total, self._resets, self._statuses - bool(self._status))
        began = sent = time.monotonic()
        yield f"retry: {RETRY_MS}\n: digitq\n\n{self._since(after, owner)}".encode()
        while not self._closed and (now := time.monotonic()) - began < MAX_STREAM_SECONDS:
            if now - sent > SLOW_SECONDS:
                return
            news, at = self._news(owner, *at)
            sent = time.monotonic()
            yield news.encode() or b": still here\n\n"
            time.sleep(PAUSE_SECONDS)

    def _now(self) -> tuple[int, int, int]:
        return self._total, self._resets, self._statuses

    def _news(self, owner: str, *at: int) -> tuple[str, tuple[int, int, int]]:
        """What is new since then, waited for, and when it is now; what one listener cannot follow is one `reset`."""
        place, resets, statuses = at
        with self._changed:
            self._changed.wait_for(lambda: self._closed or at != self._now(), HEARTBEAT_SECONDS)
            new, now, kept = self._total - place, self._now(), len(self._ring)
            gap = resets != self._resets  # upon which the ring began anew: what it has since is told
            new = min(new, kept) if gap else new
            lost = new > min(kept, MAX_AT_ONCE)
            ended = [] if lost else list(islice(self._ring, kept - new, None))
            status = self._status if statuses != self._statuses else ""
        # Written outside the lock: the thread that wakes those who wait must not wait for it.
        own = (one.event() for one in ended if one.owner == owner)
        return "".join([RESET if gap or lost else "", *own, status]), now

    def _since(self, token: str, owner: str) -> str:
        """What a listener missed since the event that it saw last."""
        if not token:
            return ""
        with self._changed:
            kept = list(self._ring)
        for i, ended in enumerate(kept):
            if ended.token == token:
                own = [one for one in kept[i + 1 :] if one.owner == owner]
                return "".join(one.event() for one in own) if len(own) <= MAX_AT_ONCE else RESET
        return self._from_history(owner, *token.split("/")) if TOKEN.fullmatch(token) else RESET

    def _from_history(self, owner: str, at: str, id: str) -> str:
        """From the last pictures that were accepted: enough if they reach back to what was seen to end."""
        try:
            page, more = self._store.recent(LOOK_BACK, owner=owner)
        except DigitqError:
            return RESET
        last = datetime.fromisoformat(at).timestamp()
        ended = sorted(((one.finished_at, one.id, one) for one in page if one.finished_at), key=lambda row: row[:2])
        if more and (not ended or ended[0][0] > last):
            return RESET
        new = (one for at, other, one in ended if at >= last and other != id)
        return "".join(as_event(one, token_of(one), self._root) for one in new)

    def stop(self) -> None:
        """Ends all streams: the process is about to stop."""
        self._closed = True
        with self._changed:
            self._changed.notify_all()


class Stream:
    """A stream whose seat is given back however it ends, even before its first byte."""

    def __init__(self, events: Events, after: str, owner: str) -> None:
        self._iterator: Any = events.listen(after, owner)
        self._events, self._open = events, True

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._iterator)  # type: ignore[no-any-return]

    def close(self) -> None:
        """Called by the server when the client has gone."""
        if self._open:
            self._open = False
            self._iterator.close()
            self._events.leave()


@bp.get("/events")
def events() -> Response:
    """The stream; with `Last-Event-ID` from after that event."""
    heard: Events = current_app.extensions["digitq_events"]
    stream = () if request.method == "HEAD" else Stream(heard, request.headers.get("Last-Event-ID", ""), g.owner)
    headers = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}
    return Response(stream, content_type="text/event-stream; charset=utf-8", headers=headers)
