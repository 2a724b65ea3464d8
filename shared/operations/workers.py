"""The workers, as others see them: their names, how busy they are, and the model that they serve."""

from __future__ import annotations

import json
from typing import Any

from shared import keys
from shared.connections.connection import redis_errors
from shared.load import Load
from shared.operations.script_runner import ScriptRunner


class Workers(ScriptRunner):
    """Operations on what is known of the workers."""

    def workers(self) -> list[str]:
        """Return the names of live workers. Raises RedisUnavailable also if Redis does not accept writes."""
        return self.with_room(self._workers)

    def _workers(self) -> list[str]:
        with redis_errors(), self.client.pipeline(transaction=False) as pipeline:
            pipeline.set(keys.READY, 1, ex=10)
            pipeline.zrangebyscore(keys.WORKERS, self.time(), "+inf")
            return [name.decode() for name in pipeline.execute()[1]]

    def load(self) -> Load:
        """Read the load of queues and workers in one round trip, in constant time."""
        return Load.from_reply(self.tell("load", queues=keys.QUEUES))

    def model_card(self) -> dict[str, Any] | None:
        """Return the card of the model in service; None if no worker has reported one."""
        card = self.get(keys.MODEL)
        return json.loads(card) if card else None

    def refusal(self) -> str:
        """Return why a worker recently refused its model; empty if none did."""
        return (self.get(keys.REFUSED) or b"").decode()

    def refuse(self, reason: str) -> None:
        """Record why a worker's model may not serve, for /readyz."""
        with redis_errors():
            self.client.set(keys.REFUSED, reason, ex=600)

    def leave(self, worker: str) -> None:
        """Remove a worker that ends."""
        with redis_errors():
            self.client.zrem(keys.WORKERS, worker)

    def forget_workers(self) -> None:
        """Forget all workers, after the start of a private server."""
        with redis_errors():
            self.client.delete(keys.WORKERS)
