"""The thread that keeps a worker's claims alive, and ends the worker when its batch hangs."""

from __future__ import annotations

import faulthandler
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from shared.claims import Claim
from shared.connections.connection import is_unanswered
from shared.runtime.health import alive
from shared.store import WORKER_TTL_SECONDS, Store

log = logging.getLogger("digitq.worker")

#: Exit status of a worker that gave itself up (EX_SOFTWARE of sysexits.h): whoever started it starts another.
HUNG = 70
#: Without a beat for so long the interpreter is locked: faulthandler, which needs none, ends the process with status 1.
LOCKED_SECONDS = 60.0


def give_up(why: str) -> None:
    """Ends this process at once: what it holds is taken over when its leases run out."""
    log.critical("%s, giving up this process", why)
    os._exit(HUNG)


class Heartbeat(threading.Thread):
    """Renews the leases three times per lease, and tells Redis in time that the worker lives.

    A process that is stopped or stuck in native code with the interpreter locked sends no heartbeat: it loses its
    leases and others take over; in the end it is replaced. One whose main thread hangs would beat for ever, so a held
    batch has a deadline.
    """

    def __init__(self, store: Store, worker: str, card: str, on_beat: Callable[[], None]) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self._store, self._worker, self._card, self._on_beat = store, worker, card, on_beat
        self._held: Sequence[Claim] = ()
        self._deadline = float("inf")
        self._stop_event = threading.Event()
        self._watching = threading.Lock()

    @contextmanager
    def holding(self, claims: Sequence[Claim], seconds: float) -> Iterator[None]:
        """Keeps the claims, and what is held around them, while the body runs, for so many seconds at most."""
        before = self._held
        self._deadline, self._held = time.monotonic() + seconds, (*before, *claims)
        try:
            yield
        finally:
            self._held = before
            self._deadline = time.monotonic() + seconds if before else float("inf")

    def extend(self, seconds: float) -> None:
        """The body has made progress: it may go on for so many seconds."""
        self._deadline = time.monotonic() + seconds

    def start(self) -> None:
        """From now on it beats."""
        self._watch()
        super().start()

    def run(self) -> None:
        """Beats until stopped; trouble with Redis is the main loop's to report."""
        seconds = min(self._store.settings.lease_seconds, WORKER_TTL_SECONDS) / 3
        slept = time.monotonic()
        while not self._stop_event.wait(seconds):
            now = time.monotonic()
            self._watch()
            # One that overslept was stopped, and the batch with it: that is no hanging, yet.
            if now > self._deadline and now - slept < 2 * seconds:
                give_up(f"batch of {len(self._held)} hangs beyond its time")
            self.beat()
            slept = time.monotonic()

    def _watch(self) -> None:
        """Ends the process unless called again in time; a stop on another thread is the last word."""
        with self._watching:
            if not self._stop_event.is_set():
                faulthandler.dump_traceback_later(LOCKED_SECONDS, exit=True, file=2)

    def beat(self) -> None:
        """One heartbeat, now. A sign of life for the healthcheck follows it, unless Redis is deaf."""
        try:
            self._store.renew(self._worker, self._held, self._card)
            self._on_beat()
        except Exception as error:  # whatever it is, the next beat must come
            log.warning("no heartbeat: %s", error)
            if is_unanswered(error):
                return
        alive()

    def stop(self) -> None:
        """Ends the thread."""
        self._stop_event.set()
        with self._watching:
            faulthandler.cancel_dump_traceback_later()
        self.join(timeout=2)
