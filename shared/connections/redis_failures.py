"""Maps what redis-py raises while Redis cannot serve to a RedisUnavailable that names the cause.

The texts are for clients and operators: they hold no address, no user and nothing that was sent. The log has the rest.
Only a client that was given the address itself is told it, by `with_address`.
"""

from __future__ import annotations

import redis
from redis import exceptions
from redis.sentinel import MasterNotFoundError

from shared.addresses import without_password
from shared.errors import MemoryFull, RedisUnavailable, WritesRefused


class PrimaryUnseen(redis.ConnectionError):
    """No sentinel can reach the primary."""


class FailoverUnderWay(redis.ConnectionError):
    """The primary was replaced, or is about to be."""


#: `Retry-After` in seconds when memory is full: room is made as soon as predictions end.
MEMORY_FULL_SECONDS = 2
#: redis-py puts this, and the whole command, in front of an error inside a pipeline.
_IN_A_PIPELINE = "caused error: "
NO_PRIMARY, NO_REPLY = "No sentinel knows a primary of Redis", "Redis does not answer in time"
NOBODY = "Redis cannot be reached"
_NO_RIGHT = "Redis's user lacks a right that digitq needs"

#: By the beginning of the error message, for errors without a redis-py class and those that a script returns.
ANSWERS: dict[str, tuple[type[RedisUnavailable], str]] = {
    "OOM": (MemoryFull, ""),
    "MISCONF Errors writing to the AOF": (WritesRefused, "Redis cannot write its log: its disk is full or failing"),
    "MISCONF": (WritesRefused, "Redis cannot save its data: its disk is full or failing"),
    "NOREPLICAS": (WritesRefused, "Redis has too few replicas connected to accept anything"),
    "READONLY": (RedisUnavailable, "Redis is a replica that accepts no writes: a failover may be under way"),
    "UNBLOCKED": (RedisUnavailable, "Redis has just become a replica: a failover is under way"),
    "MASTERDOWN": (RedisUnavailable, "Redis is a replica that has lost its primary"),
    "LOADING": (RedisUnavailable, "Redis has started and is still loading its data"),
    "BUSY ": (RedisUnavailable, "Redis is busy with a long script"),
    "NOPERM": (RedisUnavailable, _NO_RIGHT),
    "ACL failure": (RedisUnavailable, _NO_RIGHT),
    "The user executing the script": (RedisUnavailable, _NO_RIGHT),
    "max number of clients": (RedisUnavailable, "Redis accepts no more connections"),
}
#: redis-py cuts the first word off the messages of these classes.
CLASSES: tuple[tuple[type[Exception], str], ...] = (
    (exceptions.OutOfMemoryError, "OOM"),
    (exceptions.ReadOnlyError, "READONLY"),
    (exceptions.MasterDownError, "MASTERDOWN"),
    (exceptions.BusyLoadingError, "LOADING"),
    (exceptions.NoPermissionError, "NOPERM"),
)
#: By class, the first that fits, where no server has answered or it does not accept us.
OTHERS: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...] = (
    (MasterNotFoundError, NO_PRIMARY),
    (PrimaryUnseen, "The sentinels do not see the primary of Redis"),
    (FailoverUnderWay, "Another Redis takes over: a failover is under way"),
    (exceptions.MaxConnectionsError, "All connections to Redis are in use"),
    (exceptions.AuthenticationError, "Redis does not accept the user or the password"),
    (exceptions.NoScriptError, "Redis has just been replaced by another server"),  # a retry loads the script
    ((exceptions.TimeoutError, TimeoutError), NO_REPLY),
    ((exceptions.ConnectionError, OSError), NOBODY),
)
#: Any other error from Redis, and arguments that redis-py cannot send, are bugs of ours.
OURS = (redis.ResponseError, exceptions.DataError)


def unavailable(error: Exception) -> RedisUnavailable | None:
    """Return the error to raise instead; None for a bug of ours."""
    text = next((start for kind, start in CLASSES if isinstance(error, kind)), str(error).rpartition(_IN_A_PIPELINE)[2])
    if found := answered(text):
        return found
    for kind, words in OTHERS:
        if isinstance(error, kind):
            return RedisUnavailable(words, retry_after_seconds=1)
    return None if isinstance(error, OURS) else RedisUnavailable(retry_after_seconds=1)


def with_address(error: RedisUnavailable, url: str) -> RedisUnavailable:
    """Add the address, its password masked, to an error that says that nobody answers there. For those who know it."""
    if str(error) in (NO_PRIMARY, NO_REPLY, NOBODY):
        hint = "Is it running? Pass the URL that `make up` prints, or set REDIS_URL."
        error.args = (f"{error}: {without_password(url)}. {hint}",)
    return error


def answered(text: str) -> RedisUnavailable | None:
    """Return the error for the text of a Redis error; None if that does not say that Redis cannot serve."""
    for start, (kind, words) in ANSWERS.items():
        if text.startswith(start):
            return kind(words, retry_after_seconds=MEMORY_FULL_SECONDS if kind is MemoryFull else 1)
    return None
