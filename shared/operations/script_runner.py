"""Calls the scripts on one connection: makes room in a full memory, and waits for replicas if the settings say so."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

import redis

from shared import keys, redis_scripts
from shared.connections.acks import acknowledged
from shared.connections.connection import redis_errors
from shared.errors import MemoryFull
from shared.redis_server.room import Memory, Room
from shared.redis_server.server_check import ServerCheck
from shared.settings import Settings

T = TypeVar("T")


class ScriptRunner:
    """The connection and its scripts. `client` must not decode responses: images are bytes."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        self.client = client
        self.settings = settings
        self._scripts = redis_scripts.register(client)
        self._room = Room(self.memory, lambda **args: self.tell("evict", **args), settings.result_ttl_seconds)
        #: Current problems of the server's configuration.
        self.server = ServerCheck(client, settings)
        #: Whether pictures are refused that the server might lose; otherwise it is only logged.
        self.refuses_unsafe = False
        #: Rate limit of a client: pictures, and seconds; (0, 0) for none.
        self.rate = settings.rate()

    def run(self, name: str, keys: Sequence[str] = (), args: Sequence[Any] = ()) -> Any:
        """Call one of `scripts/`; its header describes arguments and answer."""
        with redis_errors():
            return self._scripts[name](keys=keys, args=args)

    def tell(self, name: str, rows: Sequence[Mapping[str, Any]] = (), /, **named: Any) -> Any:
        """Call a script without keys, with arguments by name."""
        return self.run(name, [], redis_scripts.arguments(rows, **named))

    def get(self, key: str) -> bytes | None:
        """Return the bytes of a key."""
        with redis_errors():
            return cast("bytes | None", self.client.get(key))

    def time(self) -> float:
        """Return Redis's clock in Unix seconds, which leases and records use."""
        with redis_errors():
            seconds, micros = self.client.time()
        return float(seconds) + float(micros) / 1e6

    def run_safely(self, name: str, on: Sequence[str], args: Sequence[Any], pictures: int = 0) -> Any:
        """Run a script, and return once enough replicas have acknowledged its writes.

        If memory is nearly full, first waits and evicts to make room for the arguments and for `pictures`. Raises
        MemoryFull, and RedisUnavailable also if the replicas are too slow: the writes may then exist all the same.
        """
        self.check_server()
        size = sum(len(arg) for arg in args if isinstance(arg, bytes))
        self._room.reserve(size, pictures)
        return self.with_room(lambda: self._run_acknowledged(name, on, args), size)

    def _run_acknowledged(self, name: str, on: Sequence[str], args: Sequence[Any]) -> Any:
        wanted = self.settings.replicas_ack
        if not wanted:
            return self.run(name, on, args)
        return acknowledged(self.client, lambda pipe: self._scripts[name](keys=on, args=args, client=pipe), wanted)

    def check_server(self) -> None:
        """Log problems of the server. Raises RedisUnavailable, and RedisMisconfigured if pictures might be lost.

        The latter only if this store refuses such servers.
        """
        if self.refuses_unsafe:
            self.server.require()
        else:
            self.server.findings()

    def with_room(self, call: Callable[[], T], size: int = 0) -> T:
        """Return the result of a call, repeated after an eviction if a full memory refuses it.

        The call must be atomic, and needs `size` bytes. Raises MemoryFull if nothing can be evicted, and as the call.
        """
        try:
            return call()
        except MemoryFull:
            if not self.make_room(size):
                raise
            return call()

    def make_room(self, refused_bytes: int | None = None) -> int:
        """Evict the oldest finished predictions if memory is nearly full; return their number.

        `refused_bytes` are needed besides, because Redis has refused them. Unfinished predictions, and those finished
        in the last seconds, are kept. Raises RedisUnavailable.
        """
        return self._room.make(refused_bytes)

    def reserve(self, size: int) -> None:
        """Wait and make room for `size` bytes if memory is nearly full. Raises MemoryFull."""
        self._room.reserve(size)

    def memory(self) -> Memory:
        """Return the memory used by Redis, its limit, and the memory reserved for queued pictures."""
        with redis_errors(), self.client.pipeline(transaction=False) as pipeline:
            pipeline.info("memory")
            for queue in keys.QUEUES:
                pipeline.llen(keys.queue(queue))
                pipeline.zcard(keys.running(queue))  # claimed
            info, *lengths = pipeline.execute()
        # Buffers for replicas and the log do not count towards maxmemory.
        used = int(info["used_memory"]) - int(info.get("mem_not_counted_for_evict", 0))
        return Memory(used, int(info.get("maxmemory", 0)), sum(lengths))
