"""Broken on purpose: the real web process, but it accepts pictures without waiting for the replicas to have them.

It does not follow the primary either: without that little would be lost, as it lets go before a demotion.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import redis

from producer import server
from shared import store
from shared.sentinel import Follower
from shared.settings import Settings


def forgetful(client: redis.Redis, write: Callable[[Any], Any], wanted: int) -> Any:
    """What `shared.acks.acknowledged` answers, at once."""
    with client.pipeline(transaction=False) as pipeline:
        write(pipeline)
        return pipeline.execute()[0]


def application() -> server.Process:
    """What the server calls, in each of its processes."""
    vars(store)["acknowledged"] = forgetful
    Follower.drop = lambda self: None  # type: ignore[method-assign]
    return server.application()


def main() -> None:
    """Serves as `digitq web` does."""
    real = server.WebServer
    vars(server)["WebServer"] = lambda target, **options: real("faults.broken.no_acks:application", **options)
    server.serve(Settings.from_env())


if __name__ == "__main__":
    main()
