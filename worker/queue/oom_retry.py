"""A Redis client for RQ: it repeats commands refused with OOM in a script that may exceed the memory limit, and fences.

What a worker writes only ends jobs that were accepted, and ended jobs free memory.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import redis
from redis.client import Pipeline
from redis.exceptions import OutOfMemoryError, WatchError

from shared import redis_scripts
from shared.connections.liveness import LivePubSub

#: Seconds for which memory counts as full after a refusal.
FULL_SECONDS = 60
#: A key, and the values with which a transaction counts.
Fence = tuple[str, Collection[bytes | None]]


class OomRetryRedis(redis.Redis):
    """A client on the connections of another one that repeats refused commands and transactions.

    Redis does nothing of a command or transaction that it refuses with OOM, so nothing is done twice.
    """

    def __init__(self, client: redis.Redis) -> None:
        super().__init__(connection_pool=client.connection_pool)
        #: Until when memory counts as full (`time.monotonic`).
        self.full_until = float("-inf")
        self._script = self.register_script(redis_scripts.source("insist"))
        self._next = threading.local()

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Runs a command, over the memory limit if it is refused."""
        try:
            return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        except OutOfMemoryError:
            return self.run_over_limit([args])[0]

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> Pipeline:
        """Returns a pipeline; only a transaction is repeated, since another may have been done in part."""
        if not transaction:
            return super().pipeline(transaction, shard_hint)
        fence, self._next.fence = getattr(self._next, "fence", None), None
        return OomRetryPipeline(self, shard_hint, fence)

    @contextmanager
    def fenced(self, key: str, values: Collection[bytes | None]) -> Iterator[None]:
        """Runs a block whose first transaction fails, which ends the block, if the key has another value by then.

        RQ reads first and writes late. In between this worker may have stood still, or the primary may have been
        replaced: another worker may have taken over what was read, and ended it.
        """
        self._next.fence = key, values
        try:
            with suppress(WatchError):
                yield
        finally:
            self._next.fence = None

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


class OomRetryPipeline(Pipeline):
    """A transaction of an OomRetryRedis, perhaps with a fence."""

    def __init__(self, client: OomRetryRedis, shard_hint: Any, fence: Fence | None = None) -> None:
        super().__init__(client.connection_pool, client.response_callbacks, True, shard_hint)
        self._client, self._fence = client, fence
        if fence:
            self._watch(*fence)
            self.multi()

    def _watch(self, key: str, values: Collection[bytes | None]) -> None:
        self.watch(key)  # type: ignore[no-untyped-call]
        if self.get(key) not in values:
            self.reset()
            raise WatchError(f"{key} has another value")

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
            if self._fence:
                self._watch(*self._fence)
                self.reset()
            elif watched:
                self._client.full_until = time.monotonic() + FULL_SECONDS
                raise WatchError("memory is full") from error
            return self._client.run_over_limit(commands)
