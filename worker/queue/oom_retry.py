"""A Redis client for RQ: it repeats commands refused with OOM in a script that may exceed the memory limit, and fences.

The writes of a worker only end jobs that were accepted, and ended jobs free memory.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import redis
from redis.client import Pipeline
from redis.exceptions import OutOfMemoryError, WatchError

from shared import keys, redis_scripts
from shared.connections.liveness import LivePubSub

#: Seconds for which memory counts as full after a refusal.
FULL_SECONDS = 60
#: What must hold when a transaction is run, as insist.lua takes it.
Fence = Mapping[str, Any]
#: The words of a command of Redis.
Command = tuple[Any, ...]


class Fenced(BaseException):
    """A transaction was not run, since its fence no longer holds. No Exception, for RQ logs any and goes on."""


class OomRetryRedis(redis.Redis):
    """A client on the connections of another one that repeats refused commands and transactions.

    Redis does nothing of a command or transaction that it refuses with OOM, so nothing is done twice.
    """

    def __init__(self, client: redis.Redis) -> None:
        super().__init__(connection_pool=client.connection_pool)
        #: Until when memory counts as full (`time.monotonic`).
        self.full_until = float("-inf")
        self.script = self.register_script(redis_scripts.source("insist"))
        self._next = threading.local()

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Run a command, over the memory limit if it is refused."""
        try:
            return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        except OutOfMemoryError:
            return self.run_over_limit([args])[0]

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> Pipeline:
        """Return a pipeline; only a transaction is repeated, since another may have been done in part."""
        if not transaction:
            return super().pipeline(transaction, shard_hint)
        fence, self._next.fence = getattr(self._next, "fence", None), None
        return OomRetryPipeline(self, shard_hint, fence)

    @contextmanager
    def fenced(self, **fence: Any) -> Iterator[None]:
        """Run a block whose first transaction writes nothing, and raises Fenced or WatchError, if the fence is broken.

        RQ reads first and writes late. In between this worker may have stood still, or the primary may have been
        replaced: another worker may have taken over the jobs that were read, and ended them. `fence` is for insist.lua.
        """
        self._next.fence = fence
        try:
            yield
        finally:
            self._next.fence = None

    def pubsub(self, **options: Any) -> LivePubSub:
        """Return a subscription that notices a dead connection; RQ's thread for commands reads it."""
        return LivePubSub(self.connection_pool, **options)

    def run_over_limit(self, commands: Sequence[Command]) -> list[Any]:
        """Run the commands in one script. Returns their answers as redis-py would, and raises the first error."""
        self.full_until = time.monotonic() + FULL_SECONDS
        return self.parsed(commands, self.script(args=arguments(commands)))

    def parsed(self, commands: Sequence[Command], answers: Sequence[Any]) -> list[Any]:
        """Return the answers of the script as redis-py would. Raises the first error among them."""
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return [self._parse(command, answer) for command, answer in zip(commands, answers, strict=True)]

    def _parse(self, command: Command, answer: Any) -> Any:
        if command[0] == "HGETALL":  # a script returns a hash as a flat list
            return dict(zip(answer[::2], answer[1::2], strict=True))
        parse = self.response_callbacks.get(command[0])  # type: ignore[no-untyped-call]
        return parse(answer) if parse else answer


class OomRetryPipeline(Pipeline):
    """A transaction of an OomRetryRedis, perhaps with a fence."""

    def __init__(self, client: OomRetryRedis, shard_hint: Any, fence: Fence | None = None) -> None:
        super().__init__(client.connection_pool, client.response_callbacks, True, shard_hint)
        self._client, self._fence = client, fence
        if fence and "turn" in fence:
            self.watch(keys.RECOVERY)  # type: ignore[no-untyped-call]  # another may have it and give it back meanwhile
            self.multi()

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Run the transaction, over the memory limit if it is refused.

        Raises Fenced, and WatchError, after which RQ starts again. A full Redis does not even queue a command, and
        forgets the watched keys: so after a recent refusal such a transaction is a script from the start.
        """
        commands, watched = [args for args, _ in self.command_stack], self.watching
        if commands and (self._fence or (watched and time.monotonic() < self._client.full_until)):
            return self._execute_script(commands)
        try:
            return super().execute(raise_on_error)
        except OutOfMemoryError as error:
            if watched:
                self._client.full_until = time.monotonic() + FULL_SECONDS
                raise WatchError("memory is full") from error
            return self._client.run_over_limit(commands)

    def _execute_script(self, commands: Sequence[Command]) -> list[Any]:
        """Run a transaction of one script that has the commands; Redis checks the watched keys before it."""
        self.command_stack = []
        self._client.script(args=arguments(commands, self._fence), client=self)
        [answers] = super().execute()
        if answers is None:
            raise Fenced
        return self._client.parsed(commands, answers)


def arguments(commands: Sequence[Command], fence: Fence | None = None) -> list[Any]:
    """Return the arguments of insist.lua."""
    return redis_scripts.arguments(**fence or {}) + [word for command in commands for word in (len(command), *command)]
