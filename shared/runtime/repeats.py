"""Limits repeated errors in the log: each kind once, then once a minute with a count; and logs the end of an outage."""

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
#: Most kinds remembered at a time.
MOST_KINDS = 256
#: Errors that are over with Redis's next reply, Python's and redis-py's, by name: a health check, which only logs, does
#: not import redis-py.
AWAY = {"ConnectionError", "TimeoutError", "OSError"}

#: In a pipeline, redis-py puts the command with its keys and this in front of the error.
_IN_A_PIPELINE = "caused error: "


class Kind(NamedTuple):
    """The kind of a log record: logger, message, class of the error and the first words of its text.

    All that is logged of a Redis that is away is one kind for each class, whoever notices it and however.
    """

    logger: str
    message: str
    error: type[BaseException]
    words: str
    is_outage: bool = False

    @classmethod
    def of(cls, record: logging.LogRecord, error: BaseException) -> Kind:
        """Return the kind of a record whose first argument is `error`."""
        cause = error.__cause__ if type(error).__name__ == "RedisUnavailable" and error.__cause__ else error
        of_redis = cause is not error or record.msg.startswith("redis: ") or type(error).__module__.startswith("redis.")
        if of_redis and any(base.__name__ in AWAY for base in type(cause).__mro__):
            return cls("", "", type(cause), "", is_outage=True)
        return cls(record.name, record.msg, type(error), _first_words(error))


@dataclass(slots=True)
class Logged:
    """When a record of a kind was last logged, and how many were suppressed since."""

    at: float
    suppressed: int = 0


class Repeats:
    """A logging filter that suppresses a record whose first argument is an error of a kind logged within a minute.

    Those of other levels than INFO and WARNING are never suppressed.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._logged: dict[Kind, Logged] = {}
        self._outage_since: float | None = None

    def __call__(self, record: logging.LogRecord) -> bool:
        """Tell whether to log the record."""
        error = record.args[0] if isinstance(record.args, tuple) and record.args else None
        if record.levelno not in (logging.INFO, logging.WARNING) or not isinstance(error, BaseException):
            return True
        now, kind = time.monotonic(), Kind.of(record, error)
        with self._lock:
            if kind.is_outage and self._outage_since is None:
                self._outage_since = now
            logged = self._logged.get(kind)
            if logged and now - logged.at < QUIET_SECONDS:
                logged.suppressed += 1
                return False
            if len(self._logged) >= MOST_KINDS:
                self._logged.clear()
            self._logged[kind] = Logged(now)
        if logged and logged.suppressed:
            record.msg = f"{record.msg} ({logged.suppressed} times more since the last line)"
        return True

    def answered(self) -> None:
        """Log the end of an outage, if there was one, and let the next outage be logged at once."""
        if self._outage_since is None:
            return
        with self._lock:
            since, self._outage_since = self._outage_since, None
            self._logged = {kind: logged for kind, logged in self._logged.items() if not kind.is_outage}
        if since is not None:
            log.warning("redis: answers again after %.1f s", time.monotonic() - since)


def _first_words(error: BaseException) -> str:
    """Return the words that distinguish causes of one class, without numbers."""
    return " ".join(re.sub(r"\d", "", str(error).rpartition(_IN_A_PIPELINE)[2]).split()[:3])


#: The filter of this process.
repeats = Repeats()
