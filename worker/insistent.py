"""RQ's own commands in a Redis whose memory is full: what a worker writes there only ends what was accepted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import redis
from redis.client import Pipeline
from redis.exceptions import OutOfMemoryError

from shared import redis_scripts

Command = tuple[Any, ...]


class InsistentRedis(redis.Redis):
    """A client that runs what was refused for want of memory once more, in a script that may exceed the limit.

    Nothing of a refused command or transaction has been done, so nothing is done twice. What is within memory takes the
    usual way. It shares the connections of the client that it is made of.
    """

    def __init__(self, client: redis.Redis) -> None:
        super().__init__(connection_pool=client.connection_pool)
        self.script = self.register_script(redis_scripts.source("insist"))

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """As in redis-py."""
        try:
            return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        except OutOfMemoryError:
            return self.insist([args])[0]

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> Pipeline:
        """As in redis-py; a pipeline that is no transaction may have been done in part, and is not run again."""
        if not transaction:
            return super().pipeline(transaction, shard_hint)
        return InsistentPipeline(self, shard_hint)

    def insist(self, commands: Sequence[Command]) -> list[Any]:
        """Runs the commands in one step. Returns the answers; a hash that is read comes flat."""
        return self.read(commands, self.script(args=words(commands)))

    def read(self, commands: Sequence[Command], answers: Sequence[Any]) -> list[Any]:
        """The script's answers as redis-py gives those of the commands."""
        readers = [self.response_callbacks.get(command[0]) for command in commands]  # type: ignore[no-untyped-call]
        return [read(answer) if read else answer for read, answer in zip(readers, answers, strict=True)]


class InsistentPipeline(Pipeline):
    """A transaction of such a client."""

    def __init__(self, client: InsistentRedis, shard_hint: Any) -> None:
        super().__init__(client.connection_pool, client.response_callbacks, True, shard_hint)
        self._client = client

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        """As in redis-py."""
        commands = [args for args, _ in self.command_stack]
        if commands and self.watching:
            # Once refused, nothing would be watched any more: it is the script from the outset.
            self._client.script_load(self._client.script.script)
            self.command_stack = [(("EVALSHA", self._client.script.sha, 0, *words(commands)), {})]
            return self._client.read(commands, super().execute(raise_on_error)[0])
        try:
            return super().execute(raise_on_error)
        except OutOfMemoryError:
            return self._client.insist(commands)


def words(commands: Sequence[Command]) -> list[Any]:
    """What insist.lua expects."""
    return [word for command in commands for word in (len(command), *command)]
