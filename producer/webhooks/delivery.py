"""Delivers webhooks: posts each ended prediction to its callback URL, signed as Standard Webhooks specifies.

The script that ends a prediction adds its id to a sorted set, scored by the time it is due. Threads of the web process
claim due ids under a lease; if the process dies, the lease expires and another one delivers. So each message arrives at
least once, with an id by which its receiver recognises a repetition.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from producer.webhooks.safe_http import Unreachable, post
from shared import VERSION
from shared.errors import DigitqError
from shared.operations.webhooks import DueWebhook
from shared.prediction import Prediction
from shared.record import rfc3339, said
from shared.settings import Settings
from shared.store import Store

log = logging.getLogger("digitq.webhooks")

#: Seconds between attempts; delivery is given up after the last.
DELAYS = (5, 30, 120, 600, 3600, 7200, 14400)
#: Lease of one attempt in seconds: longer than a call may take.
LEASE_SECONDS = 60
#: Seconds between two searches for due deliveries.
POLL_SECONDS = 0.5
#: Concurrent calls of one process, and of one party, so that a party with dead receivers cannot block the others.
THREADS = 32
PER_PARTY = 4
#: The status by which a receiver unsubscribes.
GONE = 410


class Deliverer:
    """Delivers due webhooks, each from a thread of its own. Any number of processes may run one."""

    def __init__(self, store: Store, *, delays: Sequence[float] = DELAYS, lease_seconds: float = LEASE_SECONDS) -> None:
        self._store, self._delays, self._lease = store, delays, lease_seconds
        self._closed, self._wake = threading.Event(), threading.Event()
        self._free = threading.BoundedSemaphore(THREADS)
        self._lock = threading.Lock()
        self._calls: Counter[str] = Counter()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start delivering, if a secret to sign with is set."""
        if not self._store.settings.webhook_secret:
            return
        self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Start no further delivery."""
        self._closed.set()
        self._wake.set()

    def close(self) -> None:
        """Stop, and return once all deliveries under way have ended."""
        self.stop()
        if self._thread:
            self._thread.join()
        for _ in range(THREADS):
            self._free.acquire()

    def _run(self) -> None:
        while not self._closed.is_set():
            with _errors_logged():
                while not self._closed.is_set() and self._start_one():
                    pass
            self._wake.wait(POLL_SECONDS * random.uniform(0.5, 1.5))
            self._wake.clear()

    def _start_one(self) -> bool:
        """Start one delivery in a thread; return False if none is due, or too many are under way."""
        if not self._free.acquire(blocking=False):
            return False
        due = None
        try:
            due = self._claim()
        finally:
            if due is None:
                self._free.release()
        if due is not None:
            threading.Thread(target=self._call, args=(due,), name="webhook", daemon=True).start()
        return due is not None

    def _call(self, due: DueWebhook) -> None:
        with _errors_logged():
            self._deliver(due)
        self._free.release()
        self._wake.set()

    def deliver_one(self) -> bool:
        """Make one attempt and record its outcome; return False if none is due."""
        due = self._claim()
        if due is not None:
            self._deliver(due)
        return due is not None

    def _claim(self) -> DueWebhook | None:
        with self._lock:
            busy = [party for party, calls in self._calls.items() if calls >= PER_PARTY]
            due = self._store.due_webhook(self._lease, len(self._delays) + 1, busy)
            self._calls += Counter([due.party] if due else [])
            return due

    def _deliver(self, due: DueWebhook) -> None:
        try:
            self._attempt(due)
        finally:
            with self._lock:
                self._calls -= Counter([due.party])

    def _attempt(self, due: DueWebhook) -> None:
        try:
            status = send(due, self._store.settings)
            why = f"status {status}"
        except Unreachable as error:
            status, why = 0, str(error)
        about = {"prediction_id": due.id, "request_id": upload_notes(due).get("request_id"), "tries": due.tries}
        if 200 <= status < 300:
            self._store.end_webhook(due, "delivered")
        elif status == GONE or due.tries > len(self._delays):
            self._store.end_webhook(due, "gone" if status == GONE else "given_up")
            log.warning("webhook given up: %s", why, extra=about)
        else:
            delay = self._delays[due.tries - 1] * random.uniform(1, 1.1)
            self._store.end_webhook(due, "failing", delay)
            log.info("webhook failed, again in %.0f s: %s", delay, why, extra=about)


@contextmanager
def _errors_logged() -> Iterator[None]:
    """Log errors instead of raising them, so that no error ends the thread: the lease makes a delivery due again."""
    try:
        yield
    except DigitqError as error:
        log.debug("trying again: %s", error)
    except Exception:
        log.exception("unexpected error")


def send(due: DueWebhook, settings: Settings) -> int:
    """Post one message; return the receiver's status. Raises Unreachable."""
    body = message(Prediction.from_record(due.id, due.record), settings.root_path)
    trace = upload_notes(due).get("traceparent")
    # The receiver recognises a repetition by the id. A job that an operator requeues ends again, with another id.
    id = due.id if due.end == 1 else f"{due.id}.{due.end}"
    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"digitq/{VERSION}",
        **({"traceparent": trace} if trace else {}),
        **signed(id, int(time.time()), body, settings.webhook_secret),
    }
    return post(due.url, body, headers, settings)


def upload_notes(due: DueWebhook) -> dict[str, str]:
    """Return the request id and the trace of the upload."""
    return said(due.record.get("digitq_about"))


def message(prediction: Prediction, root: str) -> bytes:
    """Return the body of a webhook; its links start with `root`."""
    kind, at = f"prediction.{prediction.state.value}", rfc3339(prediction.finished_at)
    return json.dumps({"type": kind, "timestamp": at, "data": prediction.to_json(root)}).encode()


def signed(id: str, at: int, body: bytes, secrets: str) -> Mapping[str, str]:
    """Return the headers of Standard Webhooks. Each secret adds a signature, so that secrets can be rotated."""
    keys = [base64.b64decode(secret.removeprefix("whsec_")) for secret in secrets.split()]
    signatures = [hmac.digest(key, f"{id}.{at}.".encode() + body, hashlib.sha256) for key in keys]
    return {
        "webhook-id": id,
        "webhook-timestamp": str(at),
        "webhook-signature": " ".join(f"v1,{base64.b64encode(one).decode()}" for one in signatures),
    }
