"""Keeps an outage of Redis from filling the log: each error once, then once a minute with its count, then its end."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass

log = logging.getLogger("digitq.redis")

#: Seconds between two lines of the same kind.
QUIET_SECONDS = 60.0
#: Errors that end with the next answer, whatever it is: Python's and redis-py's, by name, since a healthcheck that only
#: logs is not to load redis-py.
AWAY = {"ConnectionError", "TimeoutError", "OSError"}

Kind = tuple[str, str, type[BaseException]]


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
        now, kind = time.monotonic(), (record.name, record.msg, type(error))
        with self._lock:
            if _is_away(type(error)) and self._away_since is None:
                self._away_since = now
            told = self._told.get(kind)
            if told and now - told.at < QUIET_SECONDS:
                told.held_back += 1
                return False
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
            self._told = {kind: told for kind, told in self._told.items() if not _is_away(kind[2])}
        if since is not None:
            log.warning("redis: answers again after %.1f s", time.monotonic() - since)


def _is_away(kind: type[BaseException]) -> bool:
    return any(base.__name__ in AWAY for base in kind.__mro__)


#: This process's.
repeats = Repeats()
