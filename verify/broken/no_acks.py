"""Broken on purpose: the real web process, but it accepts pictures without waiting for the replicas to have them.

It does not follow the primary either: without that little would be lost, as it lets go before a demotion.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import redis

from shared import store
from shared.connections.sentinel import Follower
from shared.settings import Settings


def forgetful(client: redis.Redis, write: Callable[[Any], Any], wanted: int) -> Any:
    """What `shared.connections.acks.acknowledged` answers, at once."""
    with client.pipeline(transaction=False) as pipeline:
        write(pipeline)
        return pipeline.execute()[0]


# Not in `main`: the server's processes import this module, and run nothing of it.
vars(store)["acknowledged"] = forgetful
Follower.drop = lambda self: None  # type: ignore[method-assign]


def main() -> None:
    """Serves as `digitq web` does."""
    from producer.serving.server import serve

    serve(Settings.from_env())


if __name__ == "__main__":
    main()
