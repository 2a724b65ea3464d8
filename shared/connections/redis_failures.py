"""What Redis or redis-py says when Redis cannot serve, as an error of ours that names the cause in words.

The words are for clients and operators: they hold no address, no user and nothing that was sent. The log has the rest.
"""

from __future__ import annotations

import redis
from redis import exceptions
from redis.sentinel import MasterNotFoundError

from shared.connections.sentinel import FailoverUnderWay, PrimaryUnseen
from shared.errors import MemoryFull, RedisUnavailable, WritesRefused

#: Seconds after which to try again what a full memory has refused: room is made as soon as something has ended.
MEMORY_FULL_SECONDS = 2
#: redis-py puts this, and the whole command, in front of what was answered to a command of a pipeline.
_IN_A_PIPELINE = "caused error: "

#: By the first words of an answer: for what redis-py has no class for, and for what a script has caught.
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
    "NOPERM": (RedisUnavailable, "Redis's user lacks a right that digitq needs"),
    "ACL failure": (RedisUnavailable, "Redis's user lacks a right that digitq needs"),
    "The user executing the script": (RedisUnavailable, "Redis's user lacks a right that digitq needs"),
    "max number of clients": (RedisUnavailable, "Redis accepts no more connections"),
}
#: By class, the first that fits.
CLASSES: tuple[tuple[type[Exception], str], ...] = (
    (exceptions.OutOfMemoryError, "OOM"),
    (exceptions.ReadOnlyError, "READONLY"),
    (exceptions.MasterDownError, "MASTERDOWN"),
    (exceptions.BusyLoadingError, "LOADING"),
    (exceptions.NoPermissionError, "NOPERM"),
)
#: The same where no server has answered, or one that does not know us.
OTHERS: tuple[tuple[type[Exception], str], ...] = (
    (MasterNotFoundError, "No sentinel knows a primary of Redis"),
    (PrimaryUnseen, "The sentinels do not see the primary of Redis"),
    (FailoverUnderWay, "Another Redis takes over: a failover is under way"),
    (exceptions.MaxConnectionsError, "All connections to Redis are in use"),
    (exceptions.AuthenticationError, "Redis does not accept the user or the password"),
    (exceptions.NoScriptError, "Redis has just been replaced by another server"),  # which has yet to learn the script
    (exceptions.TimeoutError, "Redis does not answer in time"),
    (TimeoutError, "Redis does not answer in time"),
    (exceptions.ConnectionError, "Redis cannot be reached"),
    (OSError, "Redis cannot be reached"),
)
#: Any other answer, and what redis-py cannot send, is a mistake of ours.
OURS = (redis.ResponseError, exceptions.DataError)


def unavailable(error: Exception) -> RedisUnavailable | None:
    """The error as one of ours, with its cause in words; None for an answer that is our own mistake."""
    for kind, answer in CLASSES:
        if isinstance(error, kind):
            return answered(answer)
    text = str(error).rpartition(_IN_A_PIPELINE)[2]
    if found := answered(text):
        return found
    for kind, words in OTHERS:
        if isinstance(error, kind):
            return RedisUnavailable(words, retry_after_seconds=1)
    return None if isinstance(error, OURS) else RedisUnavailable(retry_after_seconds=1)


def answered(text: str) -> RedisUnavailable | None:
    """The same for what a server has answered, such as a script's own error; None where that names no such cause."""
    for start, (kind, words) in ANSWERS.items():
        if text.startswith(start):
            seconds = MEMORY_FULL_SECONDS if kind is MemoryFull else 1
            return kind(words, retry_after_seconds=seconds)
    return None
