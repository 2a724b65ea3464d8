"""Webhooks: tells a callback URL that its prediction has ended, signed as Standard Webhooks says.

Off the worker's path: the script that ends a record adds its id to a sorted set, by when it is due. Threads here take
what is due under a lease, so that what a process that was killed had in hand comes due again: each message is delivered
at least once, and carries an id by which its receiver knows a repetition.
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
from shared.prediction import Prediction, rfc3339, said
from shared.settings import Settings
from shared.store import DueWebhook, Store

log = logging.getLogger("digitq.webhooks")

#: Seconds between two tries; after the last of them it is given up.
DELAYS = (5, 30, 120, 600, 3600, 7200, 14400)
#: Seconds for which a try is in one thread's hands: longer than a call may take.
LEASE_SECONDS = 60
#: Seconds between two looks for what is due.
LOOK_SECONDS = 0.5
#: Calls at once from one process, and those of one party: one whose receivers are dead leaves the others to the rest.
THREADS = 32
PER_PARTY = 4
#: The receiver's word for "never again".
GONE = 410


class Deliverer:
    """Sends the due webhooks, each call in a thread of its own. Any number of processes may run one."""

    def __init__(self, store: Store, *, delays: Sequence[float] = DELAYS, lease_seconds: float = LEASE_SECONDS) -> None:
        self._store, self._delays, self._lease = store, delays, lease_seconds
        self._closed, self._look = threading.Event(), threading.Event()
        self._free = threading.BoundedSemaphore(THREADS)
        self._lock = threading.Lock()
        self._calls: Counter[str] = Counter()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begins to send, where there is a secret to sign with."""
        if not self._store.settings.webhook_secret:
            return
        self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """No further message is begun."""
        self._closed.set()
        self._look.set()

    def close(self) -> None:
        """Returns once all that has begun has been sent."""
        self.stop()
        if self._thread:
            self._thread.join()
        for _ in range(THREADS):
            self._free.acquire()

    def _run(self) -> None:
        while not self._closed.is_set():
            with _kept_going():
                while not self._closed.is_set() and self._begin_one():
                    pass
            self._look.wait(LOOK_SECONDS * random.uniform(0.5, 1.5))
            self._look.clear()

    def _begin_one(self) -> bool:
        """Begins one call in a thread of its own; False if nothing is due, or there is no room for it."""
        if not self._free.acquire(blocking=False):
            return False
        due = None
        try:
            due = self._take()
        finally:
            if due is None:
                self._free.release()
        if due is not None:
            threading.Thread(target=self._call, args=(due,), name="webhook", daemon=True).start()
        return due is not None

    def _call(self, due: DueWebhook) -> None:
        with _kept_going():
            self._deliver(due)
        self._free.release()
        self._look.set()

    def deliver_one(self) -> bool:
        """Makes one try and notes what comes of it; False if nothing is due."""
        due = self._take()
        if due is not None:
            self._deliver(due)
        return due is not None

    def _take(self) -> DueWebhook | None:
        with self._lock:
            busy = [party for party, calls in self._calls.items() if calls >= PER_PARTY]
            due = self._store.due_webhook(self._lease, len(self._delays) + 1, busy)
            self._calls += Counter([due.party] if due else [])
            return due

    def _deliver(self, due: DueWebhook) -> None:
        try:
            self._try(due)
        finally:
            with self._lock:
                self._calls -= Counter([due.party])

    def _try(self, due: DueWebhook) -> None:
        try:
            status = send(due, self._store.settings)
            why = f"status {status}"
        except Unreachable as error:
            status, why = 0, str(error)
        about = {"prediction_id": due.id, "request_id": asked(due).get("request_id"), "tries": due.tries}
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
def _kept_going() -> Iterator[None]:
    """Logs what is raised. Neither an absent Redis nor a bug ends the sending: the lease brings the message back."""
    try:
        yield
    except DigitqError as error:
        log.debug("looking again: %s", error)
    except Exception:
        log.exception("unexpected")


def send(due: DueWebhook, settings: Settings) -> int:
    """The receiver's status. Raises Unreachable."""
    body = message(Prediction.from_record(due.id, due.record), settings.root_path)
    trace = asked(due).get("traceparent")
    # By this its receiver knows a repetition; a picture that was put back ends again, and that is another message.
    id = due.id if due.end == 1 else f"{due.id}.{due.end}"
    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"digitq/{VERSION}",
        **({"traceparent": trace} if trace else {}),
        **signed(id, int(time.time()), body, settings.webhook_secret),
    }
    return post(due.url, body, headers, settings)


def asked(due: DueWebhook) -> dict[str, str]:
    """What came with the upload."""
    return said(due.record.get("digitq_about"))


def message(prediction: Prediction, root: str) -> bytes:
    """What a receiver is told; its links start with `root`."""
    kind, at = f"prediction.{prediction.state.value}", rfc3339(prediction.finished_at)
    return json.dumps({"type": kind, "timestamp": at, "data": prediction.to_json(root)}).encode()


def signed(id: str, at: int, body: bytes, secrets: str) -> Mapping[str, str]:
    """The headers of Standard Webhooks; one signature for each secret, so that secrets can be changed."""
    keys = [base64.b64decode(secret.removeprefix("whsec_")) for secret in secrets.split()]
    signatures = [hmac.digest(key, f"{id}.{at}.".encode() + body, hashlib.sha256) for key in keys]
    return {
        "webhook-id": id,
        "webhook-timestamp": str(at),
        "webhook-signature": " ".join(f"v1,{base64.b64encode(one).decode()}" for one in signatures),
    }
