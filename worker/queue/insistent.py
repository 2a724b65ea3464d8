"""RQ's own commands in a Redis whose memory is full: what a worker writes there only ends what was accepted."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import redis
from redis.client import Pipeline
from redis.exceptions import OutOfMemoryError, WatchError

from shared import redis_scripts
from shared.connections.liveness import LivePubSub

#: For how long a Redis that has refused something may be full.
LATELY_SECONDS = 60

Command = tuple[Any, ...]


class InsistentRedis(redis.Redis):
    """A client that runs what was refused for want of memory once more, in a script that may exceed the limit.

    Nothing of a refused command or transaction has been done, so nothing is done twice. What is within memory takes the
    usual way. It shares the connections of the client that it is made of.
    """

    def __init__(self, client: redis.Redis) -> None:
        super().__init__(connection_pool=client.connection_pool)
        self._full_at = float("-inf")
        self._script = self.register_script(redis_scripts.source("insist"))

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

    def pubsub(self, **options: Any) -> LivePubSub:
        """As in redis-py; RQ hears its commands on it, and would not notice that its connection is dead."""
        return LivePubSub(self.connection_pool, **options)

    def insist(self, commands: Sequence[Command]) -> list[Any]:
        """Runs the commands in one step. Returns their answers."""
        self.note_full()
        answers = self._script(args=["{}", *(word for command in commands for word in (len(command), *command))])
        return [self._read(command, answer) for command, answer in zip(commands, answers, strict=True)]

    def _read(self, command: Command, answer: Any) -> Any:
        """The answer as redis-py gives it; a script answers with a hash as a flat list."""
        if command[0] == "HGETALL":
            return dict(zip(answer[::2], answer[1::2], strict=True))
        read = self.response_callbacks.get(command[0])  # type: ignore[no-untyped-call]
        return read(answer) if read else answer

    def note_full(self) -> None:
        """Memory is full now."""
        self._full_at = time.monotonic()

    @property
    def lately_full(self) -> bool:
        """Whether something was refused within the last minute."""
        return time.monotonic() - self._full_at < LATELY_SECONDS


class InsistentPipeline(Pipeline):
    """A transaction of such a client."""

    def __init__(self, client: InsistentRedis, shard_hint: Any) -> None:
        super().__init__(client.connection_pool, client.response_callbacks, True, shard_hint)
        self._client = client

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        """As in redis-py; after a WatchError RQ begins anew.

        A full Redis does not even queue a command, and forgets what was watched. So where it has just been full, an
        empty transaction tells whether something has changed, and the script follows at once.
        """
        commands, watched = [args for args, _ in self.command_stack], self.watching
        if commands and watched and self._client.lately_full:
            self.command_stack = []
            super().execute()
            return self._client.insist(commands)
        try:
            return super().execute(raise_on_error)
        except OutOfMemoryError as error:
            if not watched:
                return self._client.insist(commands)
            self._client.note_full()
            raise WatchError("memory is full") from error
