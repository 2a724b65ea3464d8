"""What users do: hand in pictures at a steady rate, wait, ask twice, take back, forget. The ledger hears it all."""

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

#: Users at a time, and how many visits may be under way or waiting for a user.
USERS, MOST_VISITS = 64, 256
#: What a visitor does with an accepted picture, and how often of a hundred.
ACTS = {"follow": 66, "leave": 10, "cancel": 16, "forget": 8}
#: Of a hundred visits, how many hand in a damaged picture, or the same one twice under one key.
DAMAGED, TWICE = 3, 12
#: Seconds between a picture's acceptance and taking it back: while it waits, while it runs, when it has ended.
SECOND_THOUGHTS = (0.0, 0.0, 0.003, 0.02, 0.2)
#: Seconds between two attempts at what was answered 503.
RETRY_SECONDS = 0.2

T = TypeVar("T")


class GivenUp(Exception):
    """The run is over, and there was still no answer."""


@dataclass(frozen=True)
class Picture:
    """An upload, and the digit in it or the code of the error that it deserves."""

    data: bytes
    expected: int | str


def pictures() -> list[Picture]:
    """The recorded digits of the model in service, as they were read when it was made, and some that are damaged."""
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
class Visit:
    """One user's plan."""

    picture: Picture
    key: str
    priority: str
    act: str
    second_thought: float


class Workload:
    """Visits at `rate` a second until stopped; the plans follow from the dice alone."""

    def __init__(self, client: Client, ledger: Ledger, pictures: Sequence[Picture], rate: float, dice: random.Random):
        self._client, self._ledger, self._rate, self._dice = client, ledger, rate, dice
        self._good = [one for one in pictures if isinstance(one.expected, int)]
        self._damaged = [one for one in pictures if isinstance(one.expected, str)]
        self._pool = ThreadPoolExecutor(USERS, "user")
        self._room = threading.BoundedSemaphore(MOST_VISITS)
        self._stop, self._over = threading.Event(), threading.Event()
        self._ticker = threading.Thread(target=self._tick, name="ticker", daemon=True)

    def start(self) -> None:
        """The first visitors come."""
        self._ticker.start()

    def stop(self) -> None:
        """No new visitors; those who are there go on."""
        self._stop.set()
        self._ticker.join()

    def close(self) -> None:
        """Everybody leaves now."""
        self._stop.set()
        self._over.set()
        self._pool.shutdown(cancel_futures=True)

    def _tick(self) -> None:
        at = time.monotonic()
        while not self._stop.wait(max(0.0, at - time.monotonic())):
            at = max(at + 1 / self._rate, time.monotonic() - 1)  # what an outage kept away does not come all at once
            twice = self._dice.randrange(100) < TWICE
            visit = self._plan(twice)
            for _ in range(1 + twice):
                if self._room.acquire(blocking=False):
                    self._pool.submit(self._visit, visit)

    def _plan(self, twice: bool) -> Visit:
        dice = self._dice
        kind = self._damaged if dice.randrange(100) < DAMAGED else self._good
        act = dice.choices([*ACTS], [*ACTS.values()])[0]
        return Visit(
            dice.choice(kind),
            f"verify-{dice.getrandbits(64):x}",
            dice.choices(["normal", "high", "low"], [8, 1, 1])[0],
            "follow" if twice else act,  # a key is free again once its prediction is forgotten
            dice.choice(SECOND_THOUGHTS),
        )

    # ------------------------------------------------------------------ one visit

    def _visit(self, visit: Visit) -> None:
        try:
            with contextlib.suppress(GivenUp):
                entry = self._submit(visit)
                if visit.act == "cancel":
                    time.sleep(visit.second_thought)
                    entry.taken_back_at = time.time()
                    self._delete(entry, "cancel")
                if visit.act != "leave":
                    self.follow(entry)
                if visit.act == "forget" and entry.end:
                    entry.forgotten_at = time.time()
                    self._delete(entry, "forget")
                    entry.forgotten_at = time.time()
        except Exception as error:
            self._ledger.surprise(visit.key, error)
        finally:
            self._room.release()

    def _submit(self, visit: Visit) -> Entry:
        tried_at = time.time()

        def once() -> Prediction:
            return self._client.submit(visit.picture.data, priority=visit.priority, idempotency_key=visit.key)

        prediction = self._stubbornly(once)
        followed = visit.act != "leave"
        return self._ledger.accept(prediction.id, visit.key, visit.picture.expected, tried_at, followed)

    def _delete(self, entry: Entry, why: str) -> None:
        try:
            self._stubbornly(lambda: self._client.cancel(entry.id))
            self._ledger.count(f"{why}_204")
        except StillRunning:
            self._ledger.count(f"{why}_409")
        except (NotFound, Lost, Expired) as error:
            self._ledger.count(f"{why}_{error.status}")

    def follow(self, entry: Entry) -> None:
        """Waits for the end."""
        while not entry.settled:
            self.look(entry, wait=5)

    def look(self, entry: Entry, wait: float = 0) -> None:
        """Reads the prediction, for the ledger."""
        try:
            self._ledger.saw(entry, self._stubbornly(lambda: self._client.get(entry.id, wait)))
        except (NotFound, Lost, Expired) as error:
            self._ledger.missed(entry, error.code)

    def _stubbornly(self, call: Callable[[], T]) -> T:
        """What a well-made client does about 503 and 429: the same again, a little later."""
        while not self._over.is_set():
            try:
                return call()
            except DigitqError as error:
                if error.status not in (429, 503):
                    raise
                self._ledger.count("refused")
                time.sleep(RETRY_SECONDS * random.uniform(0.5, 1.5))
        raise GivenUp
