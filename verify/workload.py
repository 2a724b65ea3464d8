"""Simulates users: they submit pictures at a steady rate, wait, submit twice, cancel and delete, for the ledger."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from typing import TypeVar

from producer import Client
from shared.errors import DigitqError, Expired, Lost, NotFound, SettingsError, StillRunning
from shared.prediction import Prediction
from verify.ledger import Entry, Ledger

#: Threads for users, and most sessions that run or wait for a thread.
USERS, MOST_SESSIONS = 64, 256
#: Actions after a picture is accepted, and their shares in %.
ACTS = {"follow": 66, "leave": 10, "cancel": 16, "forget": 8}
#: Shares of sessions, in %, that submit a damaged picture, or the same one twice under one key.
DAMAGED, TWICE = 3, 12
#: Seconds before a picture is cancelled: while it is queued, while it runs, after it has ended.
CANCEL_DELAYS = (0.0, 0.0, 0.003, 0.02, 0.2)
#: Mean seconds before a request answered with 503 is retried.
RETRY_SECONDS = 0.2

T = TypeVar("T")


class GivenUp(Exception):
    """The run ended before a request succeeded."""


@dataclass(frozen=True)
class Picture:
    """An upload, and its digit or the code of the expected error."""

    data: bytes
    expected: int | str


def pictures() -> list[Picture]:
    """Return the golden digits of the model in service, with the recorded predictions, and damaged copies of them."""
    try:
        import numpy as np
        from PIL import Image
    except ImportError as error:
        raise SettingsError("verify reads the recorded digits with NumPy: install digitq[worker]") from error
    from shared.settings import Settings

    good = []
    with np.load(Settings.from_env().model_path / "golden.npz") as golden:
        for image, row in zip(golden["images"], golden["probabilities"], strict=True):
            out = BytesIO()
            Image.fromarray(image).save(out, "PNG")
            good.append(Picture(out.getvalue(), int(row.argmax())))
    return [*good, *(Picture(one.data[: len(one.data) // 2], "undecodable_image") for one in good)]


@dataclass(frozen=True)
class Session:
    """The plan of one user."""

    picture: Picture
    key: str
    priority: str
    act: str
    cancel_delay: float


class Workload:
    """Sessions at `rate` a second until it is stopped; the plans depend on the random generator alone."""

    def __init__(self, client: Client, ledger: Ledger, pictures: Sequence[Picture], rate: float, dice: random.Random):
        self._client, self._ledger, self._rate, self._dice = client, ledger, rate, dice
        self._good = [one for one in pictures if isinstance(one.expected, int)]
        self._damaged = [one for one in pictures if isinstance(one.expected, str)]
        self._pool = ThreadPoolExecutor(USERS, "user")
        self._room = threading.BoundedSemaphore(MOST_SESSIONS)
        self._stop, self._over = threading.Event(), threading.Event()
        self._ticker = threading.Thread(target=self._tick, name="ticker", daemon=True)

    def start(self) -> None:
        """Start the sessions."""
        self._ticker.start()

    def stop(self) -> None:
        """Start no new sessions; those that run continue."""
        self._stop.set()
        self._ticker.join()

    def wait(self, seconds: float) -> None:
        """Wait at most `seconds` until all sessions are over; the others then give up.

        The ledger is complete afterwards: an upload that was under way is in it, and no other is accepted.
        """
        end = time.monotonic() + seconds
        for _ in range(MOST_SESSIONS):
            self._room.acquire(timeout=max(0.0, end - time.monotonic()))
        self.close()
        self._over.clear()  # `look` still retries

    def close(self) -> None:
        """End all sessions now."""
        self._stop.set()
        self._over.set()
        self._pool.shutdown(cancel_futures=True)

    def _tick(self) -> None:
        at = time.monotonic()
        while not self._stop.wait(max(0.0, at - time.monotonic())):
            # At most a second behind: after an outage the missed sessions do not all start at once.
            at = max(at + 1 / self._rate, time.monotonic() - 1)
            twice = self._dice.randrange(100) < TWICE
            session = self._plan(twice)
            for _ in range(1 + twice):
                if self._room.acquire(blocking=False):
                    self._pool.submit(self._session, session)

    def _plan(self, twice: bool) -> Session:
        dice = self._dice
        kind = self._damaged if dice.randrange(100) < DAMAGED else self._good
        act = dice.choices([*ACTS], [*ACTS.values()])[0]
        return Session(
            dice.choice(kind),
            f"verify-{dice.getrandbits(64):x}",
            dice.choices(["normal", "high", "low"], [8, 1, 1])[0],
            "follow" if twice else act,  # a key is free again once its prediction is deleted
            dice.choice(CANCEL_DELAYS),
        )

    # ------------------------------------------------------------------ one session

    def _session(self, session: Session) -> None:
        try:
            with contextlib.suppress(GivenUp):
                entry = self._submit(session)
                if session.act == "cancel":
                    time.sleep(session.cancel_delay)
                    entry.taken_back_at = time.time()
                    self._delete(entry, "cancel")
                if session.act != "leave":
                    self.follow(entry)
                if session.act == "forget" and entry.end:
                    entry.forgotten_at = time.time()
                    self._delete(entry, "forget")
                    entry.forgotten_at = time.time()
        except Exception as error:
            self._ledger.surprise(session.key, error)
        finally:
            self._room.release()

    def _submit(self, session: Session) -> Entry:
        tried_at = time.time()

        def once() -> Prediction:
            return self._client.submit(session.picture.data, priority=session.priority, idempotency_key=session.key)

        prediction = self._retried(once)
        followed = session.act != "leave"
        return self._ledger.accept(prediction.id, session.key, session.picture.expected, tried_at, followed)

    def _delete(self, entry: Entry, why: str) -> None:
        try:
            self._retried(lambda: self._client.cancel(entry.id))
            self._ledger.count(f"{why}_204")
        except StillRunning:
            self._ledger.count(f"{why}_409")
        except (NotFound, Lost, Expired) as error:
            self._ledger.count(f"{why}_{error.status}")

    def follow(self, entry: Entry) -> None:
        """Wait for the end."""
        while not entry.settled:
            self.look(entry, wait=5)

    def look(self, entry: Entry, wait: float = 0) -> None:
        """Read the prediction for the ledger."""
        try:
            self._ledger.saw(entry, self._retried(lambda: self._client.get(entry.id, wait)))
        except (NotFound, Lost, Expired) as error:
            self._ledger.missed(entry, error.code)

    def _retried(self, call: Callable[[], T]) -> T:
        """Retry after 503 and 429, as a well-made client does."""
        while not self._over.is_set():
            try:
                return call()
            except DigitqError as error:
                if error.status not in (429, 503):
                    raise
                self._ledger.count("refused")
                time.sleep(RETRY_SECONDS * random.uniform(0.5, 1.5))
        raise GivenUp
