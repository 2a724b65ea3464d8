"""Redis clients for RQ: one repeats commands refused with OOM in a script that may exceed the memory limit.

What a worker writes only ends jobs that were accepted, and ended jobs free memory. The other one is for RQ's recovery.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, cast

import redis
from redis.client import Pipeline
from redis.exceptions import OutOfMemoryError, WatchError

from shared import keys, redis_scripts
from shared.connections.liveness import LivePubSub

#: Seconds for which memory counts as full after a refusal.
FULL_SECONDS = 60


class OomRetryRedis(redis.Redis):
    """A client on the connections of another one that repeats refused commands and transactions.

    Redis does nothing of a command or transaction that it refuses with OOM, so nothing is done twice.
    """

    def __init__(self, client: redis.Redis) -> None:
        super().__init__(connection_pool=client.connection_pool)
        #: Until when memory counts as full (`time.monotonic`).
        self.full_until = float("-inf")
        self._script = self.register_script(redis_scripts.source("insist"))

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Runs a command, over the memory limit if it is refused."""
        try:
            return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        except OutOfMemoryError:
            return self.run_over_limit([args])[0]

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> Pipeline:
        """Returns a pipeline; only a transaction is repeated, since another may have been done in part."""
        return OomRetryPipeline(self, shard_hint) if transaction else super().pipeline(transaction, shard_hint)

    def pubsub(self, **options: Any) -> LivePubSub:
        """Returns a subscription that notices a dead connection; RQ's thread for commands reads it."""
        return LivePubSub(self.connection_pool, **options)

    def run_over_limit(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Runs the commands in one script. Returns their answers as redis-py would."""
        self.full_until = time.monotonic() + FULL_SECONDS
        answers = self._script(args=["{}", *(word for command in commands for word in (len(command), *command))])
        return [self._parse(command, answer) for command, answer in zip(commands, answers, strict=True)]

    def _parse(self, command: tuple[Any, ...], answer: Any) -> Any:
        if command[0] == "HGETALL":  # a script returns a hash as a flat list
            return dict(zip(answer[::2], answer[1::2], strict=True))
        parse = self.response_callbacks.get(command[0])  # type: ignore[no-untyped-call]
        return parse(answer) if parse else answer


class RecoveryRedis(OomRetryRedis):
    """A client for RQ's recovery, which reads all abandoned jobs and then writes them in its first transaction.

    That transaction fails if another worker recovers by then: the turn has expired because this worker stood still, or
    the primary was replaced. The jobs may have been taken over and have ended since.
    """

    def __init__(self, client: redis.Redis, worker: str) -> None:
        super().__init__(client)
        self._worker = worker.encode()
        #: Whether the next transaction is the one that fails.
        self._fenced = False

    def recover(self, cleanup: Callable[..., None], timestamp: float) -> list[str]:
        """Runs RQ's cleanup of a registry. Returns the ids of the jobs; none if another worker recovers."""
        abandoned: list[str] = []
        for _ in range(2):  # a full Redis refuses the first transaction
            abandoned.clear()
            self._fenced = True
            with suppress(WatchError):
                cleanup(timestamp, [lambda job, *_: abandoned.append(job.id)])
                return abandoned
        return []

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> Pipeline:
        """Returns a pipeline. Raises WatchError if it is the fenced one, and another worker recovers."""
        pipeline: Any = super().pipeline(transaction, shard_hint)
        if self._fenced:
            self._fenced = False
            pipeline.watch(keys.RECOVERY)
            if pipeline.get(keys.RECOVERY) not in (None, self._worker):
                pipeline.reset()
                raise WatchError("another worker recovers")
            pipeline.multi()
        return cast(Pipeline, pipeline)


class OomRetryPipeline(Pipeline):
    """A transaction of an OomRetryRedis."""

    def __init__(self, client: OomRetryRedis, shard_hint: Any) -> None:
        super().__init__(client.connection_pool, client.response_callbacks, True, shard_hint)
        self._client = client

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Runs the transaction, over the memory limit if it is refused. Raises WatchError, after which RQ starts again.

        A full Redis does not even queue a command, and forgets the watched keys. So after a recent refusal an empty
        transaction checks them first, and the script follows at once.
        """
        commands, watched = [args for args, _ in self.command_stack], self.watching
        if commands and watched and time.monotonic() < self._client.full_until:
            self.command_stack = []
            super().execute()
            return self._client.run_over_limit(commands)
        try:
            return super().execute(raise_on_error)
        except OutOfMemoryError as error:
            if not watched:
                return self._client.run_over_limit(commands)
            self._client.full_until = time.monotonic() + FULL_SECONDS
            raise WatchError("memory is full") from error
