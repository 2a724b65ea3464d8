"""Calls scripts in one round trip, without what redis-py's clients add to each call: 60 us, as much as Redis takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import redis
from redis.commands.core import Script
from redis.exceptions import NoScriptError


class ScriptCall(NamedTuple):
    """A script with its keys and arguments."""

    script: Script
    keys: Sequence[str]
    args: Sequence[Any]


def call_scripts(client: redis.Redis, calls: Sequence[ScriptCall]) -> list[Any]:
    """Run scripts in order, in one round trip; return the answer of each, or its redis.ResponseError.

    As the clients of `connect` do, repeats all once, on a fresh connection, if the connection fails. Raises redis-py's
    connection errors and timeouts.
    """
    pool = client.connection_pool
    connection: Any = pool.get_connection()
    try:
        try:
            answers = _exchange(connection, calls)
        except redis.ConnectionError:
            connection.disconnect()
            answers = _exchange(connection, calls)
    except BaseException:
        connection.disconnect()
        raise
    finally:
        pool.release(connection)
    return [_learnt(call) if isinstance(one, NoScriptError) else one for call, one in zip(calls, answers, strict=True)]


def _exchange(connection: Any, calls: Sequence[ScriptCall]) -> list[Any]:
    connection.send_packed_command(packed(connection, calls))
    return [_answer(connection) for _ in calls]


def packed(connection: Any, calls: Sequence[ScriptCall]) -> Any:
    """Return the calls as the connection sends them."""
    commands = [("EVALSHA", call.script.sha, len(call.keys), *call.keys, *call.args) for call in calls]
    return connection.pack_commands(commands)


def _answer(connection: Any) -> Any:
    try:
        return connection.read_response()
    except redis.ResponseError as error:
        return error


def _learnt(call: ScriptCall) -> Any:
    """Run a script that Redis does not know yet: redis-py loads it first."""
    try:
        return call.script(keys=call.keys, args=call.args)
    except redis.ResponseError as error:
        return error
