"""The thread that keeps a worker's claims alive, and ends the worker when its batch hangs."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from shared.claims import Claim
from shared.store import Store

log = logging.getLogger("digitq.worker")

#: Exit status of a worker that gave itself up (EX_SOFTWARE of sysexits.h): whoever started it starts another.
HUNG = 70


class Heartbeat(threading.Thread):
    """Renews the leases three times per lease, and tells Redis that the worker lives.

    A process that is stopped or stuck in native code with the interpreter locked sends no heartbeat: it loses its
    leases and others take over. One whose main thread hangs would beat for ever, so a held batch has a deadline.
    """

    def __init__(self, store: Store, worker: str, card: str, on_beat: Callable[[], None]) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self._store, self._worker, self._card, self._on_beat = store, worker, card, on_beat
        self._held: Sequence[Claim] = ()
        self._deadline = float("inf")
        self._stop_event = threading.Event()

    @contextmanager
    def holding(self, claims: Sequence[Claim], seconds: float) -> Iterator[None]:
        """Keeps the claims while the body runs, for so many seconds at most."""
        self._deadline, self._held = time.monotonic() + seconds, claims
        try:
            yield
        finally:
            self._held, self._deadline = (), float("inf")

    def extend(self, seconds: float) -> None:
        """The body has made progress: it may go on for so many seconds."""
        self._deadline = time.monotonic() + seconds

    def run(self) -> None:
        """Beats until stopped; trouble with Redis is the main loop's to report."""
        while not self._stop_event.wait(self._store.settings.lease_seconds / 3):
            if time.monotonic() > self._deadline:
                log.critical("batch of %d hangs beyond its time, giving up this process", len(self._held))
                os._exit(HUNG)
            self.beat()

    def beat(self) -> None:
        """One heartbeat, now."""
        try:
            self._store.renew(self._worker, self._held, self._card)
            self._on_beat()
        except Exception as error:  # whatever it is, the next beat must come
            log.warning("no heartbeat: %s", error)

    def stop(self) -> None:
        """Ends the thread."""
        self._stop_event.set()
        self.join(timeout=2)
