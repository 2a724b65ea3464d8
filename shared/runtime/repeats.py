"""Keeps an outage of Redis from filling the log: each error once, then once a minute with its count, then its end."""

from __future__ import annotations

import logging
import re
import threading
import time
from dataclasses import dataclass
from typing import NamedTuple

log = logging.getLogger("digitq.redis")

#: Seconds between two lines of the same kind.
QUIET_SECONDS = 60.0
#: Kinds that are remembered at a time.
MOST_KINDS = 256
#: Errors that end with the next answer, whatever it is: Python's and redis-py's, by name, since a healthcheck that only
#: logs is not to load redis-py.
AWAY = {"ConnectionError", "TimeoutError", "OSError"}

#: redis-py puts this, and the command with its keys, in front of what was answered in a pipeline.
_IN_A_PIPELINE = "caused error: "


class Kind(NamedTuple):
    """Lines of one kind say the same: of one logger and message, an error's class and the first words of its text."""

    logger: str
    message: str
    error: type[BaseException]
    words: str

    @property
    def away(self) -> bool:
        """Whether it ends with Redis's next answer: an error of the way to it, and not to a client or a file."""
        of_redis = self.message.startswith("redis: ") or self.error.__module__.startswith("redis.")
        return of_redis and any(base.__name__ in AWAY for base in self.error.__mro__)


@dataclass(slots=True)
class Told:
    """When a kind of line was last let through, and how many have been held back since."""

    at: float
    held_back: int = 0


class Repeats:
    """A filter for handlers: holds warnings back whose first argument is an error that was logged within the minute."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._told: dict[Kind, Told] = {}
        self._away_since: float | None = None

    def __call__(self, record: logging.LogRecord) -> bool:
        """Whether a record is to be logged."""
        error = record.args[0] if isinstance(record.args, tuple) and record.args else None
        if record.levelno != logging.WARNING or not isinstance(error, BaseException):
            return True
        now, kind = time.monotonic(), Kind(record.name, record.msg, type(error), _first_words(error))
        with self._lock:
            if kind.away and self._away_since is None:
                self._away_since = now
            told = self._told.get(kind)
            if told and now - told.at < QUIET_SECONDS:
                told.held_back += 1
                return False
            if len(self._told) >= MOST_KINDS:
                self._told.clear()
            self._told[kind] = Told(now)
        if told and told.held_back:
            record.msg = f"{record.msg} ({told.held_back} times more since the last line)"
        return True

    def answered(self) -> None:
        """Redis has answered: says so where it did not before, and the next outage is logged at once."""
        if self._away_since is None:
            return
        with self._lock:
            since, self._away_since = self._away_since, None
            self._told = {kind: told for kind, told in self._told.items() if not kind.away}
        if since is not None:
            log.warning("redis: answers again after %.1f s", time.monotonic() - since)


def _first_words(error: BaseException) -> str:
    """What tells causes of one class apart, without numbers and what else varies."""
    return " ".join(re.sub(r"\d", "", str(error).rpartition(_IN_A_PIPELINE)[2]).split()[:3])


#: This process's.
repeats = Repeats()
