"""When calls are repeated: retries of failed ones, and polls until a prediction or a batch has ended."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from shared.batch import Batch
from shared.errors import DigitqError, ServerUnavailable
from shared.prediction import Prediction

T = TypeVar("T")
Waitable = TypeVar("Waitable", Prediction, Batch)
Sleep = Callable[[float], Awaitable[None]]

#: HTTP statuses of temporary errors: too many requests, and service unavailable.
TEMPORARY = (429, 503)
#: Shortest pause in seconds while digitq is unreachable and cannot send Retry-After: a restart takes a second or two.
UNREACHABLE_SECONDS = 0.5
#: Longest single poll in seconds. A longer wait is several polls, each with its own retries.
POLL_SECONDS = 10.0
#: Pause after a poll that was answered early: a server with too many waiting requests does not hold another one.
PAUSE_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Retry:
    """A retry policy: exponential back-off with full jitter, never sooner than Retry-After.

    Only calls that read or carry an idempotency key are repeated, so nothing is done twice.
    """

    #: Attempts in all, the first included.
    attempts: int = 5
    #: Upper bound of the first pause in seconds; it doubles with each further pause.
    first: float = 0.1
    #: No pause exceeds this many seconds, unless the server asks for more.
    longest: float = 5.0
    #: No attempt starts later than this many seconds after the first.
    seconds: float = 30.0

    def pause(self, tried: int, error: DigitqError, elapsed: float) -> float | None:
        """Return the seconds to wait after `tried` attempts and `elapsed` seconds; None to give up.

        Full jitter: a random share of the bound, so that clients that failed together do not return together.
        """
        if error.status not in TEMPORARY or tried >= self.attempts:
            return None
        bound = min(self.longest, self.first * 2 ** (tried - 1))
        least = error.extensions.get("retry_after_seconds") or 0
        if not least and isinstance(error, ServerUnavailable):
            least = min(UNREACHABLE_SECONDS, self.longest)
        pause = float(least) + random.uniform(0, bound)
        return pause if elapsed + pause <= self.seconds else None

    async def run(
        self, call: Callable[[], Awaitable[T]], sleep: Sleep,
        repeatable: Callable[[DigitqError], bool] = lambda error: True,
    ) -> T:  # fmt: skip
        """Awaits `call()` until it succeeds. Raises its last error, at once where that is not `repeatable`."""
        began, tried = time.monotonic(), 0
        while True:
            try:
                return await call()
            except DigitqError as error:
                tried += 1
                pause = self.pause(tried, error, time.monotonic() - began) if repeatable(error) else None
                if pause is None:
                    raise
            await sleep(pause)


#: A single attempt.
NEVER = Retry(attempts=1)


async def poll(look: Callable[[float], Awaitable[Waitable]], wait: float, sleep: Sleep) -> Waitable:
    """Awaits `look(seconds)` until what it returns has ended or `wait` seconds are over; returns the last."""
    end = time.monotonic() + wait
    while True:
        began = time.monotonic()
        seconds = max(0.0, min(POLL_SECONDS, end - began))
        found = await look(seconds)
        now = time.monotonic()
        if found.state.terminal or now >= end:
            return found
        if (early := began + seconds - now) > 0:
            await sleep(min(PAUSE_SECONDS, early))


def new_key() -> str:
    """Return a unique idempotency key."""
    return str(uuid.uuid4())
