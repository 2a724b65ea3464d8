"""The heartbeat thread: it renews a worker's leases, and ends the process when a batch hangs."""

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
from shared.operations.leases import WORKER_TTL_SECONDS
from shared.runtime.health import alive
from shared.store import Store

log = logging.getLogger("digitq.worker")

#: Exit status of a worker that ends itself (EX_SOFTWARE of sysexits.h); its supervisor starts another.
HUNG = 70
#: Seconds without a heartbeat after which faulthandler, which does not need the GIL, ends the process with status 1.
LOCKED_SECONDS = 60.0
#: Seconds that a batch may take beyond its timeout.
GRACE_SECONDS = 10


def exit_now(reason: str) -> None:
    """End this process without clean-up; other workers take its jobs over when the leases expire."""
    log.critical("%s, giving up this process", reason)
    os._exit(HUNG)


class Heartbeat(threading.Thread):
    """Renews the leases of the held claims three times per lease, and marks the worker as alive.

    A process that is stopped, or stuck in native code that holds the GIL, sends none: it loses its leases, and
    faulthandler ends it. If only the main thread hangs, heartbeats would go on, so held claims have a deadline.
    """

    def __init__(self, store: Store, worker: str, card: str, on_beat: Callable[[], None]) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self._store, self._worker, self._on_beat = store, worker, on_beat
        #: Of the model in service, JSON; empty if there is none.
        self.card = card
        #: The claims that are run, and those that are to run next: the leases of both are renewed.
        self.claims: Sequence[Claim] = ()
        self.ahead: Sequence[Claim] = ()
        #: Seconds that this process was suspended, for which the deadline's clock stood still.
        self._suspended = 0.0
        self._deadline = float("inf")
        self._stop_event = threading.Event()
        self._watchdog = threading.Lock()

    @contextmanager
    def holding(self, claims: Sequence[Claim], seconds: float) -> Iterator[None]:
        """Keep the leases of these claims, and of those already held, while the block runs, with a time limit."""
        before = self.claims
        self.claims = (*before, *claims)
        self.extend(seconds)
        try:
            yield
        finally:
            self.claims = before
            self.extend(seconds if before else float("inf"))

    def extend(self, seconds: float) -> None:
        """Restarts the time limit of what is held."""
        self._deadline = time.monotonic() - self._suspended + seconds + GRACE_SECONDS

    def run(self) -> None:
        """Send heartbeats until stopped; the main loop reports connection errors."""
        seconds = min(self._store.settings.lease_seconds, WORKER_TTL_SECONDS) / 3
        last = time.monotonic()
        self._reset_watchdog()
        while not self._stop_event.wait(seconds):
            now = time.monotonic()
            self._reset_watchdog()
            if now - last >= 2 * seconds:  # the process was suspended, and its batch with it: that is no hanging
                self._suspended += now - last - seconds
            elif now - self._suspended > self._deadline:
                exit_now(f"batch of {len(self.claims)} hangs beyond its time")
            self.beat()
            last = time.monotonic()

    def _reset_watchdog(self) -> None:
        """Has faulthandler end the process unless called again in time; after `stop` it does nothing."""
        with self._watchdog:
            if not self._stop_event.is_set():
                faulthandler.dump_traceback_later(LOCKED_SECONDS, exit=True, file=2)

    def beat(self) -> None:
        """Send one heartbeat, and touch the healthcheck's file unless Redis did not answer at all."""
        try:
            self._store.renew(self._worker, (*self.claims, *self.ahead), self.card)
            self._on_beat()
        except Exception as error:  # any error: the thread must go on
            log.warning("no heartbeat: %s", error)
            if is_unanswered(error):
                return
        alive()

    def stop(self) -> None:
        """End the thread and the watchdog."""
        self._stop_event.set()
        with self._watchdog:
            faulthandler.cancel_dump_traceback_later()
        self.join(timeout=2)
