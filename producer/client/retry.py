"""When to try again, for those who call digitq: exponential back-off with full jitter that honours Retry-After."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from shared.errors import DigitqError, ServerUnavailable

T = TypeVar("T")

#: Too many requests, and out of service: nothing else gets better by itself.
PASSING = (429, 503)
#: Seconds to wait at least where digitq is away, and so cannot say how long: a restart takes a second or two.
AWAY_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Retry:
    """A policy. All that is repeated carries an idempotency key or only reads, so that nothing is done twice."""

    #: Tries in all, the first included.
    attempts: int = 5
    #: The first pause is up to this many seconds, each further one up to twice as many.
    first: float = 0.1
    #: No pause is longer than this many seconds, unless the server asks for it.
    longest: float = 5.0
    #: No try begins later than this many seconds after the first.
    seconds: float = 30.0

    def pause(self, tried: int, error: DigitqError, elapsed: float) -> float | None:
        """Seconds to wait after `tried` tries and `elapsed` seconds, never fewer than the server asks for; or give up.

        Full jitter: evenly between nothing and the bound, so that those who failed together do not come back together.
        """
        if error.status not in PASSING or tried >= self.attempts:
            return None
        bound = min(self.longest, self.first * 2 ** (tried - 1))
        least = error.extensions.get("retry_after_seconds") or 0
        if not least and isinstance(error, ServerUnavailable):
            least = min(AWAY_SECONDS, self.longest)
        pause = float(least) + random.uniform(0, bound)
        return pause if elapsed + pause <= self.seconds else None

    def run(self, function: Callable[[], T]) -> T:
        """What the function returns, sooner or later; raises its last error."""
        began, tried = time.monotonic(), 0
        while True:
            try:
                return function()
            except DigitqError as error:
                tried += 1
                pause = self.pause(tried, error, time.monotonic() - began)
                if pause is None:
                    raise
            time.sleep(pause)


#: One try and no more.
NEVER = Retry(attempts=1)
