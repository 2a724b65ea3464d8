"""Tries which commands and keys a user of Redis may use, without changing anything.

Redis checks a user's rights when it queues a command in a transaction: each command is sent between MULTI and DISCARD.
The few that are not allowed in a transaction have no effect here.
"""

from __future__ import annotations

from typing import Any

import redis

from shared import keys
from shared.connections.connection import redis_errors

#: Part of the names of keys that do not exist.
_X = "digitq-check"
_SHA = "0" * 40

Command = tuple[str, ...]

#: What both sides send outside of transactions or without a key.
DIRECT: tuple[Command, ...] = (("PING",), ("INFO", "server"), ("TIME",), ("WAIT", "0", "1"))
COMMON: tuple[Command, ...] = (
    ("EVALSHA", _SHA, "0"), ("SCRIPT", "LOAD", "return 1"), ("SCRIPT", "EXISTS", _SHA),
    ("PUBLISH", keys.EVENTS, ""), ("PUBSUB", "NUMSUB", keys.EVENTS),
)  # fmt: skip


def _on(prefix: str) -> str:
    """Return a key with this prefix that does not exist."""
    return prefix.replace("*", _X)


def _each(command: str, prefixes: str) -> tuple[Command, ...]:
    return tuple((command, _on(prefix)) for prefix in prefixes.split())


_RECORDS = "digitq:gone:* digitq:callback:* digitq:input:* digitq:batch:* digitq:chunk:* digitq:results:*"
_P, _Z, _L, _STREAM = _on("digitq:gone:*"), "digitq:recovery", _on("rq:queue:digitq*"), _on("rq:results:*")
_SHARED: tuple[Command, ...] = (
    *_each("DEL", f"{_RECORDS} digitq:bulk digitq:open digitq:skipped:* digitq:recent digitq:webhooks digitq:flow:*"),
    *_each("DEL", "digitq:accepted digitq:ended digitq:evicted digitq:bytes rq:queues rq:queue:digitq* rq:job:*"),
    *_each("DEL", "rq:results:* rq:canceled:digitq* rq:finished:digitq* rq:failed:digitq* rq:scheduled:digitq*"),
    ("EXISTS", _P), ("EXPIRE", _P, "1"), ("TTL", _P), ("GET", _P), ("SET", _P, "1"), ("HGET", _P, "x"),
    ("HMGET", _P, "x"), ("HGETALL", _P), ("HEXISTS", _P, "x"), ("HSET", _P, "x", "1"), ("HDEL", _P, "x"),
    ("HINCRBY", _P, "x", "1"), ("LLEN", _L), ("LINDEX", _L, "0"), ("LPOS", _L, "x"), ("LRANGE", _L, "0", "0"),
    ("LREM", _L, "0", "x"), ("RPUSH", _L, "x"), ("SADD", "rq:queues", "x"), ("SCARD", "rq:queues"), ("STRLEN", _P),
    ("XADD", _STREAM, "*", "x", "1"), ("XRANGE", _STREAM, "-", "+"),
    ("XDEL", _STREAM, "0-1"), ("ZADD", "digitq:open", "1", "x"), ("ZREM", "digitq:open", "x"),
    ("ZCARD", "digitq:open"), ("ZSCORE", "digitq:open", "x"), ("ZRANGEBYSCORE", "digitq:open", "0", "0"),
    ("ZREMRANGEBYSCORE", "digitq:open", "0", "0"), ("ZREMRANGEBYRANK", "digitq:recent", "0", "0"),
)  # fmt: skip
_PRODUCER: tuple[Command, ...] = (
    *_each("DEL", "digitq:image:* digitq:recent:* digitq:rate:* digitq:idempotency:* digitq:parked:* digitq:parties"),
    *_each("DEL", "digitq:ready"),
    *_each("EXISTS", "digitq:workers digitq:model digitq:refused rq:wip:digitq* rq:worker:*"),
    ("GETRANGE", _P, "0", "0"), ("INCRBY", _P, "1"), ("DECRBY", _P, "1"), ("HKEYS", _P),
    ("SMISMEMBER", "rq:queues", "x"), ("ZREVRANGEBYSCORE", "digitq:recent", "0", "0"),
)  # fmt: skip
_WORKER: tuple[Command, ...] = (
    *_each("DEL", "digitq:image:* digitq:idempotency:* digitq:workers digitq:model digitq:refused digitq:recovery"),
    *_each("DEL", "rq:wip:digitq* rq:worker:* rq:workers rq:execution:*"),
    *_each("GET", "digitq:image:* digitq:idempotency:*"),
    ("EXPIRE", _on("digitq:image:*"), "1"), ("EXPIRE", _on("digitq:idempotency:*"), "1"),
    ("PUBLISH", _on("rq:pubsub:*"), ""),
    ("PERSIST", _Z), ("TYPE", _Z), ("SETEX", _Z, "1", "x"), ("SETNX", _Z, "x"), ("INCR", _Z), ("INCRBY", _Z, "1"),
    ("DECRBY", _Z, "1"), ("HSETNX", _Z, "x", "1"), ("HINCRBYFLOAT", _Z, "x", "1"), ("LPUSH", _L, "x"), ("LPOP", _L),
    ("LTRIM", _L, "0", "0"), ("LMOVE", _L, _L, "LEFT", "LEFT"), ("BLMOVE", _L, _L, "LEFT", "LEFT", "1"),
    ("SREM", "rq:workers", "x"), ("SISMEMBER", "rq:workers", "x"), ("SMEMBERS", "rq:workers"),
    ("XTRIM", _STREAM, "MAXLEN", "1"), ("XREVRANGE", _STREAM, "+", "-"), ("ZMSCORE", _Z, "x"),
    ("ZRANGE", _Z, "0", "0"), ("ZREVRANGE", _Z, "0", "0"),
)  # fmt: skip

#: By part: the web process, which stands for `Queue` and the command line too, and a worker.
NEEDED: dict[str, tuple[Command, ...]] = {
    "web process": COMMON + _SHARED + _PRODUCER,
    "worker": COMMON + _SHARED + _WORKER,
}


def missing(client: redis.Redis, part: str) -> list[str]:
    """Return what this part needs and the client's user may not do, as `COMMAND key`. Raises RedisUnavailable."""
    direct = [*DIRECT, ("WATCH", _Z), ("UNWATCH",)] if part == "worker" else DIRECT
    with redis_errors():
        connection: Any = client.connection_pool.get_connection()
        try:
            denied = [command for command in direct if _is_denied(connection, command)]
            if _is_denied(connection, ("MULTI",)):
                return [*map(_shown, denied), "MULTI"]
            denied += [command for command in NEEDED[part] if _is_denied(connection, command)]
            _is_denied(connection, ("DISCARD",))
            if _is_denied(connection, ("SUBSCRIBE", keys.EVENTS)):
                denied.append(("SUBSCRIBE", keys.EVENTS))
        finally:
            connection.disconnect()  # it may still be subscribed
            client.connection_pool.release(connection)
    return list(map(_shown, denied))


def _is_denied(connection: Any, command: Command) -> bool:
    connection.send_command(*command)
    try:
        connection.read_response(push_request=command[0] == "SUBSCRIBE")  # RESP3 answers it with a push
    except redis.exceptions.NoPermissionError:
        return True
    except redis.ResponseError:
        pass  # unknown, or refused for another reason than a missing right
    return False


def _shown(command: Command) -> str:
    name = " ".join(command[:2]) if command[0] in ("SCRIPT", "PUBSUB") else command[0]
    key = command[1].replace(_X, "*") if len(command) > 1 and command[1].startswith(("digitq:", "rq:")) else ""
    return f"{name} {key}".strip()
